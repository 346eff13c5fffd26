"""Token sequences in a fixed order: random tokens, synthetic tasks, text, and the evaluation set."""
