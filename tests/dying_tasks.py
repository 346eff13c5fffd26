"""What the tests of running tasks in other processes let those do; imports little, since every worker imports it."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ih_lens.errors import InputError, WorkerError
from ih_lens.parallel import Task, run_tasks


def note(folder: Path, name: str) -> int:
    """Note that a task begins; returns how often it did."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((folder / name).read_text().splitlines())


def work(folder: Path, name: str) -> None:
    note(folder, name)
    time.sleep(0.05)


def sleep(folder: Path, name: str) -> None:
    note(folder, name)
    time.sleep(60)


def kill(folder: Path, name: str, *, times: int) -> None:
    """Die in the first `times` attempts."""
    if note(folder, name) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(folder: Path, name: str) -> None:
    note(folder, name)
    raise InputError("the third is wrong")


def tasks(folder: Path, third: Callable[[Path, str], None]) -> Sequence[Task]:
    """Eight of them, the third another one."""
    names = [f"task_{index}" for index in range(8)]
    return [Task(name, partial(third if name == "task_2" else work, folder, name)) for name in names]


def begun(folder: Path) -> dict[str, int]:
    """How often each task began."""
    return {file.name: len(file.read_text().splitlines()) for file in sorted(folder.glob("task_*"))}


def outcome(folder: Path, third: Callable[[Path, str], None]) -> list[object]:
    """What came out of eight tasks: type and text of the error, and how often each task began."""
    folder.mkdir(parents=True)
    try:
        run_tasks(tasks(folder, third), folder=folder, workers=None)
    except (InputError, WorkerError) as error:
        return [type(error).__name__, str(error), begun(folder)]
    return [None, None, begun(folder)]
