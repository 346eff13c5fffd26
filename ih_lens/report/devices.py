"""Which GPU a worker process takes: several on one machine share out what there is."""

import itertools
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_LOCKS = Path(tempfile.gettempdir()) / f"ih_lens-devices-{os.getuid()}"


@contextmanager
def device_for_job(device: str, *, n_gpus: int | None = None, locks: Path = _LOCKS) -> Generator[str]:
    """The device to run a job on: "cuda" becomes one of the GPUs that this process sees, any other stays.

    Jobs that run at the same time on one machine hold different places 0, 1, 2, ...; place k uses GPU k modulo
    their number. So as many workers as GPUs use all of them, and more workers spread evenly.

    Args:
        device: as in the settings.
        n_gpus: how many there are; None asks PyTorch.
        locks: folder of this machine by which places are held; a process that dies gives its place back.
    """
    if device != "cuda":
        yield device
        return
    n_gpus = torch.cuda.device_count() if n_gpus is None else n_gpus
    if n_gpus < 2:
        yield device
        return
    locks.mkdir(parents=True, exist_ok=True)
    place, lock = _free_place(locks)
    with lock:
        yield f"cuda:{place % n_gpus}"


def _free_place(locks: Path) -> tuple[int, FileLock]:
    for place in itertools.count():
        lock = FileLock(locks / f"{place}.lock", blocking=False)
        with suppress(Timeout):
            lock.acquire()
            return place, lock
    raise AssertionError
