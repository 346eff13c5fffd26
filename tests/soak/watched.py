"""Notes every measurement that begins, from whatever process, in a file that no disturbance reaches."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.soak.clock import FILE, follow_clock

NOTES = "SOAK_NOTES"
"""Names the file."""


def watch() -> None:
    """Let all measurements of this process, and of the workers that it starts, be noted."""
    from ih_lens.report.measuring import MEASUREMENTS

    notes = Path(os.environ[NOTES])
    for name, recipe in MEASUREMENTS.items():
        MEASUREMENTS[name] = replace(recipe, measure=partial(_noted, recipe.measure, notes, name))


def n_noted(notes: Path) -> int:
    """Measurements that began so far."""
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


def sessions_noted(notes: Path) -> list[int]:
    """For every measurement that began, in that order, the command that it began for."""
    return [int(line.split()[0]) for line in notes.read_text().splitlines()] if notes.exists() else []


def _noted(measure: Callable[..., Any], notes: Path, name: str, *args: Any, **options: Any) -> Any:
    with notes.open("a") as file:
        file.write(f"{os.getsid(0)} {name}\n")
    return measure(*args, **options)


if FILE in os.environ:  # also in workers, which import this module for the sake of `_noted`
    follow_clock()
