"""The version, said here alone: the build reads it from this file."""

__version__ = "0.1.0"
"""Of ih_lens; CHANGELOG.md says what each brought, CONTRIBUTING.md what its parts promise."""
