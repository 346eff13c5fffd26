"""Writing so that a kill at any moment leaves either the old or the new, never a part."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".tmp-"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def to_json_bytes(record: Any) -> bytes:
    """Readable JSON; refuses NaN and infinity, which are no JSON."""
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Generator[Path]:
    """A folder to fill; it gets its name, and becomes visible, only when everything in it is on the disk.

    Args:
        path: its name, at which nothing or an empty folder may stand.
        replace: put it in the place of a folder that is there, which is removed.
    """
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        replaced = _temporary(path) if replace and path.exists() else None
        if replaced is not None:
            path.rename(replaced)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)
    if replaced is not None:
        shutil.rmtree(replaced)  # only now, so that a kill in the middle of it finds the new one in place


@contextmanager
def temporary_folder(parent: Path) -> Generator[Path]:
    """An empty folder inside another, for what is of use only until the end."""
    place = _temporary(parent / "work")
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder; it loses its name first, so that no half of it is ever found under it."""
    temporary = _temporary(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def clear_temporaries(folder: Path, *, hours: int = 0) -> None:
    """Remove what interrupted writers left behind.

    Args:
        folder: where.
        hours: leave alone what was changed since, because others may still write it.
    """
    latest = time.time() - 3600 * hours
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(FileNotFoundError):  # what its writer finishes meanwhile
            if leftover.stat().st_mtime > latest:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _temporary(path: Path) -> Path:
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}"


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
