"""Readers of files against bytes that anybody may have written: `python -m tests.fuzz` runs them under atheris."""
