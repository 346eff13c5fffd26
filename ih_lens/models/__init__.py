"""Models: configurations, smeared keys, loading, snapshots and what a model is able to do (Model Details)."""
