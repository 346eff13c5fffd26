"""Measurements of a model on tokens: tensors in, labelled results out (the paper's Data Collection)."""
