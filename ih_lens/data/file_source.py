"""Text files, packed or not, read line by line."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ih_lens.data.pieces import Piece, pieces_of_lines, pieces_of_text
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.reading import sha256_of

_OPENERS: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class FileSource:
    """Files in a fixed order, each one or several documents.

    Args:
        root: what the files' names are relative to in the description.
        paths: the files. A name that ends in .jsonl holds one record a line, any other one plain text in UTF-8.
        separator: a line that stands between two documents of one file; None if a file is one document.
        text_field: where the text is in a record.
    """

    root: Path
    paths: tuple[Path, ...]
    separator: str | None
    text_field: str = "text"

    @staticmethod
    def text_suffix(path: Path) -> str:
        """What kind of text the name promises: its suffix, without that of packing."""
        return Path(path.stem).suffix if path.suffix in _OPENERS else path.suffix

    def pieces(self) -> Iterator[Piece]:
        """The text from the beginning.

        Raises:
            InputError: if a file cannot be read or is no UTF-8 text, or a record has no text.
            DamagedFileError: if a packed file cannot be unpacked to its end.
        """
        for path in self.paths:
            try:
                with _OPENERS.get(path.suffix, open)(path, mode="rt", encoding="utf-8") as file:
                    if self.text_suffix(path) == ".jsonl":
                        yield from self._records(path, file)
                    else:
                        yield from pieces_of_lines(file, self.separator)
            except UnicodeDecodeError as error:
                raise InputError(f"{path} is no text in UTF-8 ({error}); convert it or leave it out") from error
            except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise InputError(f"{path} cannot be read: {error.strerror}") from error
                raise DamagedFileError(f"{path} cannot be unpacked ({error}); copy it again") from error

    def describe(self) -> dict[str, Any]:
        """Number and size of the files, and a hash of their names and contents.

        Raises:
            InputError: if a file cannot be read.
        """
        digest, n_bytes = hashlib.sha256(), 0
        for path in self.paths:
            try:
                content, size = bytes.fromhex(sha256_of(path)), path.stat().st_size
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}; leave it out or allow it") from error
            digest.update(os.fsencode(path.relative_to(self.root).as_posix()) + b"\0" + content)
            n_bytes += size
        return {
            "kind": "files",
            "n_files": len(self.paths),
            "n_bytes": n_bytes,
            "sha256": digest.hexdigest(),
            "separator": self.separator,
            "text_field": self.text_field,
        }

    def _records(self, path: Path, lines: Iterable[str]) -> Iterator[Piece]:
        """The text of each record of a .jsonl file."""
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)[self.text_field]
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                text = None
            if not isinstance(text, str):
                raise InputError(
                    f"{path} line {number}: expected a JSON object with text under {self.text_field!r}; "
                    "name the right field with text_field="
                )
            yield from pieces_of_text(text, f"{path} line {number}")
