"""Reading the files of runs and snapshots: everything that can be wrong with one becomes a `DamagedFileError`."""

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ih_lens.errors import DamagedFileError
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
    if not path.is_file():
        raise DamagedFileError(f"{folder} holds no {name}: it is foreign or incomplete. Give the right folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DamagedFileError(
            f"{path} leads out of its folder; only files inside are read. Replace the link by the file"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_record(folder: Path, name: str, *, kind: str, version: int) -> dict[str, Any]:
    """A JSON file that begins with its format's name and version.

    Raises:
        DamagedFileError: if it is missing, no JSON, of another format or of another version.
    """
    path = file_inside(folder, name)
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is truncated or altered ({error}); restore it from a copy") from error
    if not isinstance(record, dict) or record.get("format") != kind:
        raise DamagedFileError(f"{path} is not a file of the format '{kind}'; give the right folder")
    if record.get("version") != version:
        raise DamagedFileError(
            f"{path} has version {record.get('version')!r} of '{kind}', this ih_lens reads version {version}; "
            "use the version of ih_lens that wrote it"
        )
    return record


def entry(record: Mapping[str, Any], key: str, expected: type[Value], path: Path) -> Value:
    """One value of a record, of the expected type; whole numbers count something, so none is negative.

    Raises:
        DamagedFileError: if it is missing or of another type.
    """
    value = record.get(key)
    if not isinstance(value, expected) or (expected is int and (isinstance(value, bool) or value < 0)):  # pyright: ignore[reportOperatorIssue]
        raise DamagedFileError(
            f"{path}: {key!r} should be {expected.__name__}, found {value!r}; restore it from a copy"
        )
    return value


def read_tensors(path: Path, *, sha256: str | None = None, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file, after its hash was compared.

    Raises:
        DamagedFileError: if the file is truncated, altered or foreign.
    """
    if sha256 is not None and sha256_of(path) != sha256:
        raise DamagedFileError(
            f"{path} is truncated or altered: its sha256 is not the recorded one. "
            "Restore it from a copy, or delete its folder and train again"
        )
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DamagedFileError(
            f"{path} is no safetensors file or is truncated ({error}); restore it from a copy"
        ) from error
