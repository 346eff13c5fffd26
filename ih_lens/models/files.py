"""The records of runs and snapshots: folders with a JSON file that says what they are."""

import functools
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from ih_lens.errors import DamagedFileError
from ih_lens.reading import read_json, shown
from ih_lens.version import __version__

_LIBRARIES = ("ih-lens", "torch", "transformer-lens", "safetensors", "numpy")
Value = TypeVar("Value")


@functools.cache
def version_of(library: str) -> str:
    """The version of a library that is in use; this one knows its own, also where it was never installed."""
    if library == "ih-lens":
        return __version__
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def library_versions() -> dict[str, str]:
    """The version of every library that a stored result depends on."""
    return {library: version_of(library) for library in _LIBRARIES}


def file_inside(folder: Path, name: str) -> Path:
    """The path of a file that lies in the folder itself, not behind a link that leads out of it.

    Raises:
        DamagedFileError: if it is missing or lies elsewhere.
    """
    path = folder / name
    try:
        found, inside = path.is_file(), path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # links in a circle are a RuntimeError of pathlib
        raise DamagedFileError(f"{path} cannot be reached ({error}); check links and permissions") from error
    if not found:
        raise DamagedFileError(f"{folder} holds no {name}: it is foreign or incomplete. Give the right folder")
    if not inside:
        raise DamagedFileError(
            f"{path} leads out of its folder; only files inside are read. Replace the link by the file"
        )
    return path


def folders_inside(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """The folders of certain names in a folder, without links that lead out of it; none where there is no folder.

    Raises:
        DamagedFileError: if one is a file or lies elsewhere, or the folder may not be read.
    """
    try:
        if not folder.is_dir():
            return []
        # of the folder that holds this one, so that a whole folder may not be a link out of its run either
        around = folder.parent.resolve()
        found = [place for place in folder.iterdir() if names.fullmatch(place.name)]
        wrong = [place for place in found if not place.is_dir() or not place.resolve().is_relative_to(around)]
    except (OSError, RuntimeError) as error:
        raise DamagedFileError(f"{folder} cannot be read ({error}); check links and permissions") from error
    if wrong:
        raise DamagedFileError(
            f"{wrong[0]} is no folder, or leads out of {folder.parent}; only what lies inside is read. "
            "Put the folder in its place"
        )
    return found


def read_record(folder: Path, name: str, *, kind: str, version: int) -> dict[str, Any]:
    """A JSON file that begins with its format's name and version.

    Raises:
        DamagedFileError: if it is missing, no JSON, of another format or of another version.
    """
    path = file_inside(folder, name)
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != kind:
        raise DamagedFileError(f"{path} is not a file of the format '{kind}'; give the right folder")
    found = record.get("version")
    if found != version or isinstance(found, bool):
        raise DamagedFileError(
            f"{path} has version {shown(found)} of '{kind}', this ih_lens reads version {version}; "
            "use the version of ih_lens that wrote it"
        )
    return record


def entry(record: Mapping[str, Any], key: str, expected: type[Value], path: Path) -> Value:
    """One value of a record, of the expected type; whole numbers count something, so none is negative.

    Raises:
        DamagedFileError: if it is missing or of another type, or too large for 64 bits with a sign.
    """
    value = record.get(key)
    if not isinstance(value, expected) or (expected is int and not _counts(value)):
        raise DamagedFileError(
            f"{path}: {key!r} should be {expected.__name__}, found {shown(value)}; restore it from a copy"
        )
    return value


def _counts(value: Any) -> bool:
    return not isinstance(value, bool) and 0 <= value < 2**63
