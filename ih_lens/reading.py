"""Reading files that anybody may have written: what is wrong with one becomes a `DamagedFileError`.

Neither JSON nor safetensors can hold anything but texts, numbers and arrays of numbers, so that nothing in them is ever
executed. What they claim to hold is bounded by their size on disk.
"""

import hashlib
import json
import math
import os
import re
import reprlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from ih_lens.errors import DamagedFileError

MOST_DEPTH = 64
"""Lists in lists and the like, which some code walks by calling itself."""
_MOST_INTEGER = 2**64
_MOST_SHOWN = 200
_HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


def require_file(path: Path) -> Path:
    """The path of a regular file; nothing else is opened, because pipes and devices may never end.

    Raises:
        DamagedFileError: if there is none.
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be reached ({error}); check its permissions") from error
    if not found:
        what = "is no regular file" if os.path.lexists(path) else "does not exist"
        raise DamagedFileError(f"{str(path)!r} {what}; give the path of a file")
    return path


def read_content(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        DamagedFileError: if there is none, or it may not be read.
    """
    try:
        return require_file(path).read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read ({error}); check its permissions") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds; strict, see `parse_json`.

    Raises:
        DamagedFileError: if there is no such file, or it holds something else.
    """
    return parse_json(read_content(path), path)


def parse_json(content: bytes | str, path: Path | str, *, finite: bool = True) -> Any:
    """The value of a JSON text, with the path for errors.

    Refused are NaN and infinity, integers beyond 64 bits, doubled keys, halves of characters, and deeper nesting than
    `MOST_DEPTH`: what no writer of this library makes, and what breaks later in places that are harder to understand.

    Args:
        content: the text.
        path: what errors call it.
        finite: refuse NaN and infinity; attributes of arrays may be such.

    Raises:
        DamagedFileError: if it is anything else than such a text.

    Examples:
        >>> parse_json('{"step": 50}', "snapshot.json")
        {'step': 50}
    """
    text = content.encode("utf8", "surrogatepass") if isinstance(content, str) else content
    try:
        value = json.loads(
            text.decode("utf8"),
            object_pairs_hook=_without_doubled_keys,
            parse_constant=_refuse_number if finite else None,
            parse_float=_finite if finite else None,
            parse_int=_integer,
        )
        if _HALF_A_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is truncated or altered ({shown(error)}); restore it from a copy") from error
    _require_shallow(value, path)
    return value


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after its hash was compared.

    Raises:
        DamagedFileError: if the file is truncated, altered or foreign.
    """
    return read_tensors_and_texts(path, sha256=sha256)[0]


def read_tensors_and_texts(path: Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and the texts that stand beside them.

    Raises:
        DamagedFileError: if the file is truncated, altered or foreign.
    """
    require_file(path)
    try:
        if sha256 is not None and sha256_of(path) != sha256:
            raise DamagedFileError(
                f"{path} is truncated or altered: its sha256 is not the recorded one. "
                "Restore it from a copy, or delete its folder and train again"
            )
        with safe_open(path, framework="pt") as file:
            # clones, because the file is mapped into memory and may be replaced
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 it is no dictionary
            return tensors, file.metadata() or {}
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise DamagedFileError(
            f"{path} is no safetensors file or is truncated ({shown(error)}); restore it from a copy"
        ) from error


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(value: object) -> str:
    """A value as messages show it: cut short, however long or deep it is."""
    return cut_short(str(value)) if isinstance(value, BaseException) else reprlib.repr(value)


def cut_short(text: str) -> str:
    """A text as messages show it."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refuse_number(text[:20])


def _integer(text: str) -> int:
    if abs(value := int(text)) >= _MOST_INTEGER:
        raise ValueError(f"the integer {text[:20]}... has more than 64 bits")
    return value


def _require_shallow(value: Any, path: Path | str) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        inside = [list(node.values()) if isinstance(node, dict) else node for node in level]
        level = [node for nodes in inside if isinstance(nodes, list) for node in nodes if type(node) in (dict, list)]
        if not level:
            return
    raise DamagedFileError(f"{path} is nested more than {MOST_DEPTH} deep; restore it from a copy")


def read_tokenizer(path: Path, remedy: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    Raises:
        DamagedFileError: if the file is none; it ends with what to do.
    """
    try:
        with panics_as_errors():
            return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise DamagedFileError(f"{path} cannot be read as a tokenizer.json ({shown(error)}); {remedy}") from error


@contextmanager
def panics_as_errors() -> Generator[None]:
    """Make an error of a panic of a library in Rust, which is none for `except Exception`."""
    try:
        yield
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":  # each library has a class of its own, and none exports it
            raise
        raise ValueError(str(panic)) from panic
