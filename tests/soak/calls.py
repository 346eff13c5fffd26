"""Commands in the background: started, looked at, and told apart from their workers."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Call:
    """One command that was given.

    Attributes:
        kind: "train" or "table".
        pid: of its process, and of its session.
        log: all that it says.
        status: how it ended; None while it runs.
        disturbed_by: what happened to it.
    """

    kind: str
    pid: int
    log: Path
    status: int | None = None
    disturbed_by: set[str] = field(default_factory=set[str])

    @property
    def said(self) -> str:
        """All that it said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def processes(self) -> list[int]:
        """Its session's processes that live, also after it died itself."""
        return [pid for pid, session in _sessions() if session == self.pid]

    def workers(self) -> list[int]:
        """Its worker processes."""
        return [pid for pid in self.processes() if pid != self.pid and not _tracks_resources(pid)]

    def send(self, number: signal.Signals, *, to_all: bool = False) -> None:
        """Send a signal to its process, or to all of them as a terminal does."""
        with suppress(ProcessLookupError):
            (os.killpg if to_all else os.kill)(self.pid, number)


class Server:
    """Starts commands; see `tests.soak.server`.

    Args:
        folder: for what the commands say.
        environment: of all processes, beside the usual.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._calls: list[Call] = []
        folder.mkdir(parents=True)
        self._errors = (folder / "server.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment},
        )
        if self._line() != "ready":
            raise RuntimeError((folder / "server.txt").read_text())

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls:
            call.send(signal.SIGKILL, to_all=True)
        self._process.communicate()
        self._errors.close()

    def start(self, words: list[str], *, cold: bool = False, **environment: str) -> Call:
        """Give a command."""
        log = self._folder / f"{len(self._calls) + 1:03d}-{words[0]}.txt"
        pid = int(self._ask({"run": words, "log": str(log), "cold": cold, "environment": environment}))
        self._calls.append(Call(words[0], pid, log))
        return self._calls[-1]

    def has_ended(self, call: Call) -> bool:
        """Whether a command's process ended, which sets its status."""
        if call.status is None:
            call.status = json.loads(self._ask({"poll": call.pid}))
        return call.status is not None

    def _ask(self, request: dict[str, object]) -> str:
        if self._process.stdin is None:
            raise RuntimeError("the server has no input")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        return "" if self._process.stdout is None else self._process.stdout.readline().strip()


def living_sessions() -> set[int]:
    """All sessions with a process that lives; a command's has the number of its process."""
    return {session for _, session in _sessions()}


def _sessions() -> list[tuple[int, int]]:
    """Number and session of every process that is not dead already."""
    found: list[tuple[int, int]] = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, session, *_ = (place / "stat").read_text().rpartition(") ")[2].split()
            if state not in "ZX":
                found.append((int(place.name), int(session)))
    return found


def _tracks_resources(pid: int) -> bool:
    """Whether this is joblib's helper, which only waits for the others to end."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
