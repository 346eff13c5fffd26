"""A clock that jumps, and files that seem to be from other times."""

import os
import random
import time
from contextlib import suppress
from pathlib import Path

FILE = "SOAK_CLOCK"
"""Names the file that says how many seconds the clock is off."""
_HOUR = 3600
_JUMPS = (-400 * 24 * _HOUR, -25 * _HOUR, -_HOUR, -1, 0, 1, _HOUR, 25 * _HOUR, 400 * 24 * _HOUR)
_true_time = time.time


def follow_clock() -> None:
    """Let `time.time` of this process follow the clock; timers run on, and files have the kernel's times.

    libfaketime does the same for every program, but breaks the timeouts that joblib's workers wait with.
    """
    file = Path(os.environ[FILE])
    time.time = lambda: _true_time() + int(file.read_text())


class Clock:
    """What the processes of a server take for the time.

    Args:
        folder: for its file.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._set(0)

    @property
    def environment(self) -> dict[str, str]:
        """Tells processes about it."""
        return {FILE: str(self._file)}

    def jump(self, chance: random.Random) -> None:
        """Be another time, from a second to a year off."""
        self._set(chance.choice(_JUMPS))

    def _set(self, offset: int) -> None:
        replacement = self._file.with_suffix(".new")
        replacement.write_text(str(offset))
        os.replace(replacement, self._file)


def change_times(folder: Path, chance: random.Random) -> None:
    """Let every file and folder be from another time, as after a jump of the clock or on a server with another."""
    offset = chance.choice(_JUMPS)
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            moment = path.stat().st_mtime + offset
            os.utime(path, (moment, moment))
