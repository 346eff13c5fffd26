"""Training with snapshots: schedules, the trainer, the run folder (Model Details)."""
