"""Analyses: results in, results out; nothing here sees a model (the paper's Analyses)."""
