"""Whether an installation gives the reference numbers: known models, every measure, stated tolerances."""
