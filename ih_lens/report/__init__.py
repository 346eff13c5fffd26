"""The Model Analysis Table: measure every snapshot of some runs once, keep the numbers, draw them."""
