"""A day's work in small, disturbed: trainings and tables that are killed, frozen, run out of disk, and made again.

`make soak`, or `python -m tests.soak`. The commands of the user are given until they succeed, while seeded
disturbances come at random moments; in the end everything must be what an undisturbed day leaves, bit for bit.
"""
