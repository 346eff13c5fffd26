"""Tasks side by side through joblib: in this process, in others on this machine, or on a cluster.

A process that dies, by the system's hand or because a machine went away, costs the tasks in flight, which are run
again. Backends differ in what they make of that: loky and ray give up a whole run, dask repeats a task on its own.
So which tasks were begun and finished is noted in files that all workers see, and the same rules hold everywhere.
"""

import logging
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend
from threadpoolctl import threadpool_limits

from ih_lens.atomic import temporary_folder, writing_into
from ih_lens.errors import WorkerError

_log = logging.getLogger(__name__)
_MOST_DEATHS = 3
"""A task is not begun again once it was left unfinished so often."""
_DEATHS_BEFORE_ALONE = 2
"""A task that was in flight at so many deaths runs alone, so that it is clear what a death comes from."""
_MOST_IDLE_ROUNDS = 3
_SECONDS_BETWEEN_LOOKS = 1.0
_ADVICE = (
    "Most often they lack memory: take fewer workers, smaller batches, or a machine with more of it; "
    "on a cluster, see the workers' logs"
)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Task:
    """Something to do that changes nothing if it was done before.

    Attributes:
        name: what errors call it.
        run: takes no argument; can be pickled; whatever it returns is ignored.
    """

    name: str
    run: Callable[[], object]


@contextmanager
def torch_threads(n_threads: int) -> Generator[None]:
    """Let PyTorch compute with so many threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_in_numpy() -> Generator[None]:
    """Let the linear algebra of NumPy and scikit-learn compute with one thread inside: more sum in another order."""
    with threadpool_limits(1, user_api="blas"):
        yield


def run_tasks(
    tasks: Sequence[Task],
    *,
    folder: Path,
    workers: int | None = None,
    report: Callable[[int], object] = int,
) -> None:
    """Run all tasks, in any order; those that were in flight when a process died are run again.

    One process runs one task at a time, whatever threads the backend gives it: the number of threads of PyTorch
    belongs to the process.

    Args:
        tasks: what to do.
        folder: an absolute path that all workers see; notes lie there meanwhile.
        workers: processes; None takes what `joblib.parallel_config` says, or this process alone.
        report: called with the number of finished tasks, from any thread; the default does nothing with it.

    Raises:
        WorkerError: if processes keep dying, with the tasks that they worked on.
        StorageError: if the folder cannot be written.
        Exception: what a task raised, unchanged; the others are stopped.
    """
    with temporary_folder(folder) as place:
        notes, n_idle = _Notes(place, len(tasks), os.getpid()), 0
        waiting = notes.waiting()
        while waiting:
            n_done = len(tasks) - len(waiting)
            calls = [(tasks[index], notes, index) for index in _next(waiting)]
            n_workers = None if workers is None else min(workers, len(calls))
            loss = _round(calls, n_workers, lambda n_more, n_done=n_done: report(n_done + n_more))
            left = notes.waiting()
            n_idle = 0 if len(left) < len(waiting) else n_idle + 1
            if n_idle == _MOST_IDLE_ROUNDS:
                begun = sorted((index for index in left if left[index]), key=left.__getitem__, reverse=True)
                raise WorkerError(
                    f"workers were lost {n_idle} times in a row and finished nothing; in work were: "
                    f"{', '.join(tasks[index].name for index in begun) or 'none, they did not even begin'}. "
                    f"{_ADVICE}. The last time: {loss!r}"
                ) from loss
            if loss is not None:
                _log.warning("workers were lost (%r); the %d unfinished tasks are run again", loss, len(left))
            waiting = left


def _next(waiting: dict[int, int]) -> list[int]:
    """The tasks of the next round: all, but those that may kill their worker only after the others, and alone."""
    safe = [index for index, n_begun in waiting.items() if n_begun < _DEATHS_BEFORE_ALONE]
    return sorted(safe, key=waiting.__getitem__) or list(waiting)[:1]


def _round(calls: Sequence["_Call"], workers: int | None, report: Callable[[int], object]) -> Exception | None:
    """Make calls of `_run` once; returns what the backend raised if it lost a worker."""
    backend: Any = get_active_backend()[0]
    client = getattr(backend, "client", None)
    parallel = _Reporting(workers, report, _of_every_worker(backend))
    try:
        if client is None:
            parallel(delayed(_run)(*call) for call in calls)
        else:
            _on_dask(client, calls, report)
    except _TaskFailed as failed:
        error = failed.error
    except Exception as loss:
        return loss
    else:
        return None
    raise error  # outside of the handler, so that it comes as it was raised


def _on_dask(client: Any, calls: Sequence["_Call"], report: Callable[[int], object]) -> None:
    """Make calls on the cluster of joblib's backend, without joblib.

    In joblib 1.6, a call on dask waits for ever if dask gives up a task, and the only worker of a cluster is not used.
    """
    from distributed import as_completed

    futures = [client.submit(_run, *call, pure=False) for call in calls]
    try:
        for n_done, future in enumerate(as_completed(futures), start=1):
            if future.status != "finished":
                raise future.exception() or RuntimeError(f"dask gave up a task: {future.status}")
            report(n_done)
    finally:
        client.cancel(futures)


class _Reporting(Parallel):
    """Tells how many tasks are finished, whether or not the backend can hand back results one by one."""

    def __init__(self, workers: int | None, report: Callable[[int], object], options: dict[str, Any]) -> None:
        # in larger batches, a death would cost tasks that were not in flight
        super().__init__(n_jobs=workers, batch_size=1, **options)  # pyright: ignore[reportArgumentType]
        self._report = report

    def print_progress(self) -> None:
        self._report(self.n_completed_tasks)


class _TaskFailed(Exception):
    """An error of a task, apart from those of the backend."""

    def __init__(self, error: Exception, trace: str) -> None:
        super().__init__(error, trace)
        self._error, self._trace = error, trace

    @property
    def error(self) -> Exception:
        """The task's error; what does not travel between processes, its traceback, stands in a note."""
        if self._error.__traceback__ is None:
            self._error.add_note(f"in a worker process:\n{self._trace}")
        return self._error


def _run(task: Task, notes: "_Notes", index: int) -> None:
    if os.getppid() == notes.caller:
        _end_with(notes.caller)
    with _one_at_a_time:
        if notes.is_done(index):
            return  # dask runs a task again if the worker that holds its result dies
        try:
            n_deaths = notes.begin(index)
            if n_deaths >= _MOST_DEATHS:
                raise WorkerError(f"{task.name}: the process that worked on it died {n_deaths} times. {_ADVICE}")
            task.run()
            notes.finish(index)
        except Exception as error:
            raise _TaskFailed(_portable(error), traceback.format_exc()) from error


def _of_every_worker(backend: Any) -> dict[str, Any]:
    """Lets loky's workers end with their command also while they start, and when they never get a task.

    Without it they wait for one five minutes long. Whoever gave workers another start keeps that one.
    """
    if not isinstance(backend, LokyBackend) or "initializer" in backend.backend_kwargs:
        return {}
    return {"initializer": _end_with, "initargs": (os.getpid(),)}


@cache
def _end_with(parent: int) -> None:
    """Let this process end soon after its parent: else the workers of a killed command go on, and hold locks."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _portable(error: Exception) -> Exception:
    """An error as it is if it survives the way between processes, otherwise its type and text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@dataclass(frozen=True)
class _Notes:
    """One file per task that was begun, a byte for each time, and one per finished task.

    Attributes:
        folder: of the files.
        n_tasks: in all.
        caller: number of the process that waits for the tasks.
    """

    folder: Path
    n_tasks: int
    caller: int

    def begin(self, index: int) -> int:
        """Note that a task begins; returns how often it was begun before."""
        with writing_into(self.folder.parent), (self.folder / f"{index}.begun").open("ab") as file:
            file.write(b".")
        return (self.folder / f"{index}.begun").stat().st_size - 1

    def finish(self, index: int) -> None:
        """Note that a task is done."""
        with writing_into(self.folder.parent):
            (self.folder / f"{index}.done").touch()

    def is_done(self, index: int) -> bool:
        """Whether a task is noted as done."""
        return (self.folder / f"{index}.done").exists()

    def waiting(self) -> dict[int, int]:
        """Tasks that are not done, and how often each was begun."""
        found: dict[str, int] = {file.name: file.stat().st_size for file in os.scandir(self.folder)}
        return {index: found.get(f"{index}.begun", 0) for index in range(self.n_tasks) if f"{index}.done" not in found}


_Call: TypeAlias = tuple[Task, _Notes, int]
