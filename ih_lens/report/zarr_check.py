"""What a saved table must look like before anything decodes it: plain numbers and texts, and nothing that is executed.

A store of zarr's names its own decoders, and some of them unpickle. So its metadata are read as JSON first, and only
arrays of fixed width without any compression or filter are let through, whose files have exactly the size that the
metadata say. Then there is nothing to decode, and no array is larger than its files.
"""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ih_lens.errors import DamagedFileError
from ih_lens.reading import read_json, shown

METADATA = ".zmetadata"
_DTYPE = re.compile(r"[<|](?:[iuf][1248]|b1|U[1-9][0-9]{0,5})")
_PART = re.compile(r"(?!\.+$)[^/\\\x00]{1,255}")
_CHUNK = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_KINDS = (".zgroup", ".zattrs", ".zarray")
_REMEDY = "make the table again and save it"


def require_plain(folder: Path) -> dict[str, Any]:
    """The attributes of the store's root, after everything in it was checked.

    Raises:
        DamagedFileError: if it is no store, or names anything that would have to be decoded.
    """
    file = folder / METADATA
    if file.is_symlink():
        raise DamagedFileError(f"{file} is a link; only what lies inside {folder} is read; {_REMEDY}")
    found = read_json(file)
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, dict) for value in metadata.values()):
        raise DamagedFileError(f"{file} holds no metadata of a zarr store; {_REMEDY}")
    around = folder.resolve()
    for name, value in metadata.items():
        *parts, kind = name.split("/")
        if kind not in _KINDS or not all(_PART.fullmatch(part) for part in parts):
            raise DamagedFileError(f"{file} names {shown(name)}, which is no part of a table; {_REMEDY}")
        place = folder.joinpath(*parts)
        if kind == ".zarray":
            if place.resolve() != around.joinpath(*parts):
                raise DamagedFileError(f"{place} is a link; only what lies inside {folder} is read; {_REMEDY}")
            _check_array(place, value)
    return metadata.get(".zattrs", {})


def _check_array(place: Path, described: dict[str, Any]) -> None:
    """Hold one array's metadata against what is let through, and against its files."""
    shape, chunks, dtype = described.get("shape"), described.get("chunks"), described.get("dtype")
    expected = {"zarr_format": 2, "compressor": None, "filters": None, "order": "C"}
    wrong = [name for name, value in expected.items() if described.get(name, value) != value]
    wrong += [] if isinstance(dtype, str) and _DTYPE.fullmatch(dtype) else ["dtype"]
    wrong += [] if _are_sizes(shape, 0) else ["shape"]
    wrong += [] if _are_sizes(chunks, 1) and not wrong and len(chunks or []) == len(shape or []) else ["chunks"]
    wrong += [] if described.get("dimension_separator", ".") == "." else ["dimension_separator"]
    if wrong:
        raise DamagedFileError(
            f"{place}: its {wrong[0]} is {shown(described.get(wrong[0]))}, which no saved table has; {_REMEDY}"
        )
    sizes: list[int] = shape or []
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(sizes, chunks or [], strict=True))
    n_bytes = math.prod(chunks or []) * np.dtype(str(dtype)).itemsize
    try:
        files = [entry for entry in os.scandir(place) if not entry.name.startswith(".")]
        sound = [
            entry
            for entry in files
            if _CHUNK.fullmatch(entry.name)
            and entry.is_file(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_size == n_bytes
        ]
    except OSError as error:
        raise DamagedFileError(f"{place} cannot be read ({error}); {_REMEDY}") from error
    if len(sound) != len(files) or len(sound) != n_chunks:
        raise DamagedFileError(
            f"{place} should hold {n_chunks} files of {n_bytes} bytes, and holds {len(sound)} such of {len(files)}: "
            f"it is altered; {_REMEDY}"
        )


def _are_sizes(value: Any, least: int) -> bool:
    """Whether these are the sizes of an array that numbers can count."""
    if not isinstance(value, list) or len(value) > 32:
        return False
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= least for size in value):
        return False
    return math.prod(value) < 2**48
