"""Running tasks side by side: errors unchanged, deaths survived, nothing run twice, nothing left behind."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from joblib._parallel_backends import ThreadingBackend

from ih_lens.atomic import temporary_folder
from ih_lens.errors import InputError, StorageError, WorkerError
from ih_lens.parallel import Task, run_tasks, torch_threads
from tests.dying_tasks import begun, fail, kill, note, outcome, tasks, work

ROOT = Path(__file__).parents[1]


class BrokenBackend(ThreadingBackend):
    def submit(self, func: object, callback: object = None) -> object:
        raise ConnectionError("no scheduler")


def test_every_task_runs_once_and_is_counted(tmp_path: Path) -> None:
    counted: list[int] = []
    run_tasks(tasks(tmp_path, work), folder=tmp_path, report=counted.append)
    assert begun(tmp_path) == {f"task_{index}": 1 for index in range(8)}
    assert counted == sorted(counted)
    assert counted[-1] == 8
    assert not list(tmp_path.glob(".tmp-*"))


def test_an_error_comes_as_it_was_raised(tmp_path: Path) -> None:
    error = InputError("wrong")

    def stop() -> None:
        raise error

    with pytest.raises(InputError) as caught:
        run_tasks([Task("one", stop)], folder=tmp_path)
    assert caught.value is error
    assert error.__context__ is None
    assert not list(tmp_path.iterdir())


def test_an_error_that_cannot_travel_is_told(tmp_path: Path) -> None:
    class LocalError(Exception):
        pass

    def stop() -> None:
        raise LocalError("details")

    with pytest.raises(RuntimeError, match="LocalError: details"):
        run_tasks([Task("one", stop)], folder=tmp_path)


def test_a_full_disk_is_no_lost_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(StorageError, match=f"^{tmp_path} cannot be written: No space left on device"):
        run_tasks(tasks(tmp_path, work), folder=tmp_path)
    assert begun(tmp_path) == {"task_0": 1}


def test_a_killed_worker_costs_what_was_in_flight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with joblib.parallel_config("loky", n_jobs=2):
        assert outcome(tmp_path / "work", partial(kill, times=1))[0] is None
    times = begun(tmp_path / "work")
    assert times["task_2"] == 2
    assert sum(times.values()) <= 8 + 2  # the task, and its neighbour
    assert sum("workers were lost" in message for message in caplog.messages) == 1


def test_an_error_in_a_worker_says_where(tmp_path: Path) -> None:
    with joblib.parallel_config("loky", n_jobs=2), pytest.raises(InputError, match="the third is wrong") as caught:
        run_tasks(tasks(tmp_path, fail), folder=tmp_path)
    assert "dying_tasks.py" in "".join(caught.value.__notes__)
    assert begun(tmp_path)["task_2"] == 1


def test_a_backend_that_never_works_is_given_up(tmp_path: Path) -> None:
    joblib.register_parallel_backend("broken", BrokenBackend)
    expected = "workers were lost 3 times in a row and finished nothing; in work were: none, they did not even begin"
    with joblib.parallel_config("broken", n_jobs=2), pytest.raises(WorkerError, match=expected) as caught:
        run_tasks(tasks(tmp_path, work), folder=tmp_path)
    assert "no scheduler" in str(caught.value)
    assert begun(tmp_path) == {}


def test_tasks_of_one_process_do_not_overlap(tmp_path: Path) -> None:
    """The number of threads is the process's, and so are other settings of PyTorch."""
    inside: list[int] = []

    def alone() -> None:
        inside.append(1)
        time.sleep(0.01)
        assert len(inside) == 1
        inside.clear()

    with joblib.parallel_config("threading", n_jobs=4):
        run_tasks([Task("alone", alone)] * 8, folder=tmp_path)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_an_interruption_leaves_no_process(tmp_path: Path) -> None:
    """Control-C on a terminal goes to all processes, `kill -INT` and `kill -KILL` to one."""
    code = (
        # whoever starts the tests in the background has them ignore interruptions, and so would all they start
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys, pathlib; from functools import partial; from tests.dying_tasks import sleep;"
        "from ih_lens.parallel import Task, run_tasks; folder = pathlib.Path(sys.argv[1]);"
        "run_tasks([Task(str(i), partial(sleep, folder, str(i))) for i in range(4)], folder=folder, workers=2)"
    )
    started: dict[Callable[[int, int], None], subprocess.Popen[bytes]] = {}
    for send in (os.kill, os.killpg, kill_alone):
        (tmp_path / send.__name__).mkdir()
        command = [sys.executable, "-c", code, str(tmp_path / send.__name__)]
        with (tmp_path / f"{send.__name__}.txt").open("wb") as said:  # a pipe stays open as long as any worker lives
            started[send] = subprocess.Popen(command, cwd=ROOT, stderr=said, start_new_session=True)
    try:
        wait_until(lambda: len(list(tmp_path.glob("*/[01]"))) == 6)
        for send, process in started.items():
            send(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) != 0
            if send is not kill_alone:
                assert "KeyboardInterrupt" in (tmp_path / f"{send.__name__}.txt").read_text()
        pids = [int(file.read_text()) for file in tmp_path.glob("*/[01]")]
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        with temporary_folder(tmp_path / kill_alone.__name__):
            pass
        assert not list(tmp_path.rglob(".tmp-*"))
    finally:
        for process in started.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_workers_without_a_task_end_with_their_command(tmp_path: Path) -> None:
    code = (
        "import signal, sys, pathlib, joblib, multiprocessing; from functools import partial;"
        "from tests.dying_tasks import work; from ih_lens.parallel import Task, run_tasks;"
        "folder = pathlib.Path(sys.argv[1]); context = joblib.parallel_config('loky', n_jobs=3); context.__enter__();"
        "run_tasks([Task('only', partial(work, folder, 'task_only'))], folder=folder);"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            workers = [int(word) for word in process.stdout.readline().split()]
            assert len(workers) == 3
            assert begun(tmp_path) == {"task_only": 1}
            process.kill()
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_workers_that_somebody_else_starts_are_left_as_they_are(tmp_path: Path) -> None:
    with joblib.parallel_config("loky", n_jobs=2, initializer=note, initargs=(tmp_path, "started")):
        run_tasks(tasks(tmp_path, work), folder=tmp_path)
    assert (tmp_path / "started").exists()
    assert begun(tmp_path) == {f"task_{index}": 1 for index in range(8)}


def kill_alone(pid: int, _: int) -> None:
    """Without any chance to tell the workers."""
    os.kill(pid, signal.SIGKILL)


def wait_until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # pyright: ignore[reportCallIssue]
        assert time.monotonic() < end
        time.sleep(0.05)
