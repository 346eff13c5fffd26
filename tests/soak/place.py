"""Where a day's work lies: a small file system of its own that can run full and become read-only, if that may be made.

Mounts are made in a namespace of this process, which takes them along when it ends in any way; other processes never
see them. Where even that is not allowed, the place is a plain folder, and `why_not` says so.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

_INSIDE = "SOAK_INSIDE"
_BALLAST = "ballast"


def enter_namespace(words: list[str]) -> None:
    """Run `python -m tests.soak` again where it may mount, if there is such a place; otherwise return."""
    if _INSIDE in os.environ:
        return
    whose = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *whose, "--mount"]
    os.environ[_INSIDE] = ""
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
        os.environ[_INSIDE] = "namespace"
        os.execvp(command[0], [*command, sys.executable, "-m", "tests.soak", *words])


class Place:
    """The folder of all runs and stores.

    Args:
        folder: made here.
        megabytes: size of its file system.

    Attributes:
        folder: where everything lies.
        why_not: why its disk cannot be full nor read-only; empty where they can.
    """

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder, self.why_not = folder, ""
        folder.mkdir(parents=True)
        if os.environ.get(_INSIDE) != "namespace":
            self.why_not = "no file system may be mounted here: neither as root nor in a namespace of one's own"
            return
        done = _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "soak", str(folder))
        if done.returncode != 0:
            self.why_not = f"no file system may be mounted here: {done.stderr.strip()}"

    def fill(self, chance: random.Random) -> None:
        """Leave no space, or a few kilobytes of it."""
        spare = chance.choice([0, 0, 4096, 16384, 65536])
        with (self.folder / _BALLAST).open("wb") as ballast:
            while (free := self._free()) > spare:  # others go on writing meanwhile
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, free - spare)
                except OSError:
                    time.sleep(0.001)

    def free(self) -> None:
        """Give the space back."""
        (self.folder / _BALLAST).unlink(missing_ok=True)

    def read_only(self) -> None:
        """Let nothing be opened for writing; what is open already goes on."""
        staging = self.folder.with_name("read_only")
        staging.mkdir(exist_ok=True)
        _require("mount", "--bind", str(self.folder), str(staging))
        _require("mount", "-o", "remount,bind,ro", str(staging))  # not in place, where somebody writes meanwhile
        _require("mount", "--move", str(staging), str(self.folder))

    def writable(self) -> None:
        """Let everything be written again."""
        _require("umount", "--lazy", str(self.folder))

    def _free(self) -> int:
        told = os.statvfs(self.folder)
        return told.f_bavail * told.f_frsize


def _require(*words: str) -> None:
    done = _run(*words)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)
