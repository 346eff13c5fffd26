"""Writing so that a kill at any moment leaves either the old or the new, never a part.

What is being written has a temporary name, and beside it a lock that the operating system frees when the writer ends
in any way. So what the dead left is told from what the living write without looking at a clock.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ih_lens.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
_LOCK_SUFFIX = ".lock"
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"(.+)-[0-9a-f]{6}-[0-9a-f]{8}(?:\.lock)?", re.DOTALL)
"""What it becomes, on which machine, and a number; a file of another form is somebody else's."""
_THIS_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_SECONDS_ELSEWHERE = 24 * 3600
"""Some file systems keep locks to one machine, so what another one writes is taken for left only when it is so old."""
_WORKING_DIRECTORY, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_ATTEMPTS = 5
"""At removing a folder: a worker that is being stopped may write into it once more."""
_ADVICE = {
    errno.ENOSPC: "Make room",
    errno.EDQUOT: "Make room",
    errno.EROFS: "Make it writable, or give another folder",
    errno.EACCES: "Make it writable, or give another folder",
    errno.EPERM: "Make it writable, or give another folder",
    errno.EIO: "Look after the disk",
}


@contextmanager
def writing_into(folder: Path) -> Generator[None]:
    """Say which folder cannot be written, and what to do about it.

    Raises:
        StorageError: if the disk is full or failed, or the folder is read-only or somebody else's.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None or not _lies_in(error.filename, folder):
            raise
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. {advice}; what was finished is kept, and the same call "
            "can be made again"
        ) from error


def write_bytes(path: Path, content: bytes, *, clear: bool = True) -> None:
    """Write a file in one step, making its folder if need be.

    Args:
        path: its name.
        content: of the file.
        clear: remove what killed writers of this file left, for which the whole folder is looked through. Who writes
            thousands of files into one folder does that once, by `clear_temporaries`.

    Raises:
        StorageError: if the folder cannot be written.
    """
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, clear=clear) as temporary:
            temporary.write_bytes(content)
            _sync(temporary)
            os.replace(temporary, path)
        _sync(path.parent)


def to_json_bytes(record: Any) -> bytes:
    """Readable JSON; refuses NaN and infinity, which are no JSON."""
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Generator[Path]:
    """A folder to fill; it gets its name, and becomes visible, only when everything in it is on the disk.

    Args:
        path: its name, at which nothing or an empty folder may stand.
        replace: put it in the place of a folder that is there, which is removed. Where the file system cannot exchange
            two names, that takes two steps, and a kill right between them leaves neither.

    Raises:
        StorageError: if the folder that it is to lie in cannot be written.
    """
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as temporary:
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            _sync(temporary)
            if replace and path.exists():
                _replace(path, temporary)
            else:
                temporary.rename(path)
        _sync(path.parent)


@contextmanager
def temporary_folder(parent: Path) -> Generator[Path]:
    """An empty folder inside another, for what is of use only until the end; what the dead left there is removed.

    Raises:
        StorageError: if the other cannot be written.
    """
    with writing_into(parent):
        parent.mkdir(parents=True, exist_ok=True)
        clear_temporaries(parent)
        with _temporary(parent / "work") as place:
            place.mkdir()
            yield place


def remove_folder(path: Path) -> None:
    """Remove a folder; it loses its name first, so that no half of it is ever found under it."""
    with writing_into(path.parent), _temporary(path) as temporary:
        path.rename(temporary)


def clear_temporaries(folder: Path, name: str = "") -> None:
    """Remove what writers left behind that were killed.

    Args:
        folder: where.
        name: only what was to become a file or folder of this name.
    """
    with suppress(FileNotFoundError):
        for found in [entry.name for entry in os.scandir(folder) if entry.name.startswith(TEMPORARY_PREFIX)]:
            of = _TEMPORARY_NAME.fullmatch(found)
            if of and name in ("", of[1]):
                _remove_if_left(folder / found.removesuffix(_LOCK_SUFFIX))


@contextmanager
def _temporary(path: Path, *, clear: bool = True) -> Generator[Path]:
    """A name for something that becomes a file or folder; whatever bears it in the end is removed."""
    if clear:
        clear_temporaries(path.parent, path.name)
    while True:
        temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{_THIS_MACHINE}-{uuid.uuid4().hex[:8]}"
        lock = os.open(_lock_of(temporary), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _lock(lock, wait=True)
            if not os.fstat(lock).st_nlink:
                continue  # somebody who clears held it first, and removed it
            try:
                yield temporary
            finally:
                _remove(temporary)
            return
        finally:
            os.close(lock)


def _remove_if_left(temporary: Path) -> None:
    """Remove something temporary unless its writer lives, or may live on another machine."""
    try:
        lock = os.open(_lock_of(temporary), os.O_RDWR)
    except FileNotFoundError:  # a lock goes last, so that its writer has ended
        _remove(temporary)
        return
    except OSError:  # somebody else's
        return
    try:
        old = os.fstat(lock).st_mtime < time.time() - _SECONDS_ELSEWHERE
        if _lock(lock) and (old or f"-{_THIS_MACHINE}-" in temporary.name):
            _remove(temporary)
    finally:
        os.close(lock)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Hold an open file for this process, if that can be done: not all file systems have locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _lock_of(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + _LOCK_SUFFIX)


def _remove(temporary: Path) -> None:
    """Remove a temporary file or folder and then its lock; what cannot be removed now is left for the next writer."""
    with suppress(OSError):
        for _ in range(_ATTEMPTS):
            if not temporary.is_dir():
                break
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            return
        temporary.unlink(missing_ok=True)
        _lock_of(temporary).unlink(missing_ok=True)


def _replace(path: Path, new: Path) -> None:
    """Give a folder the name of another, which loses it."""
    if _exchange(path, new):
        return
    with _temporary(path) as replaced:
        path.rename(replaced)
        try:
            new.rename(path)
        except BaseException:
            replaced.rename(path)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Give each the name of the other in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    places = [part for path in (one, other) for part in (_WORKING_DIRECTORY, os.fsencode(path))]
    return rename is not None and rename(*places, _EXCHANGE) == 0


def _lies_in(name: Any, folder: Path) -> bool:
    """Whether an error is about something in a folder; writing itself names no file."""
    return not isinstance(name, str | Path) or Path(name).absolute().is_relative_to(folder.absolute())


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
