"""Where text comes from: files, folders, the standard library's own sources, Hugging Face datasets, a list."""

import hashlib
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ih_lens.data.dataset_source import DatasetSource, is_dataset
from ih_lens.data.file_source import FileSource
from ih_lens.data.pieces import Piece, pieces_of_text
from ih_lens.errors import InputError
from ih_lens.validate import path_of

END_OF_TEXT = "<|endoftext|>"
STANDARD_LIBRARY = "python-stdlib"
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")
_HUB_NAME = re.compile(r"(?:hf:)?([\w-][\w.-]*(?:/[\w-][\w.-]*)?)")
_FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests"})


@runtime_checkable
class TextSource(Protocol):
    """Documents in a fixed order, as often as asked."""

    def pieces(self) -> Iterator[Piece]:
        """The text from the beginning."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the text is, ready for JSON; equal descriptions mean equal text."""
        ...


@dataclass(frozen=True)
class TextList:
    """Documents given as strings."""

    documents: Sequence[str]

    def pieces(self) -> Iterator[Piece]:
        """The text from the beginning."""
        for number, document in enumerate(self.documents):
            yield from pieces_of_text(document, f"text {number} of the list")

    def describe(self) -> dict[str, Any]:
        """Number of documents and a hash of all of them."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(hashlib.sha256(document.encode(errors="surrogatepass")).digest())
        return {"kind": "list", "n_documents": len(self.documents), "sha256": digest.hexdigest()}


def python_standard_library() -> FileSource:
    """The Python sources of the running interpreter's standard library: some 12 MB of text on every machine.

    Sorted by path; installed packages and the library's own tests, which not every installation has, are left out.

    Examples:
        >>> python_standard_library().describe()["n_bytes"] > 5_000_000
        True
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in root.rglob("*.py") if not _FOREIGN_FOLDERS & set(path.relative_to(root).parts)]
    return FileSource(root, tuple(sorted(paths)), separator=None)


def text_source(
    source: Any,
    *,
    separator: str | None = END_OF_TEXT,
    text_field: str = "text",
    split: str = "train",
    config: str | None = None,
    suffixes: Sequence[str] = TEXT_SUFFIXES,
) -> TextSource:
    """Find out what a source is.

    Args:
        source: a file or a folder (searched below, in sorted order; .gz, .bz2 and .xz are unpacked on the way);
            "python-stdlib"; the name of a Hugging Face dataset, which is streamed ("hf:" before it is optional);
            a `datasets` object; a list of documents; or anything with `pieces` and `describe`.
        separator: a line that stands between two documents of one file; None if a file is one document.
        text_field: where the text is in the records of .jsonl files and of datasets.
        split: split of a named dataset.
        config: configuration of a named dataset.
        suffixes: which files of a folder are text.

    Raises:
        InputError: if there is no such source.

    Examples:
        >>> text_source("books/").describe()["n_files"]
        4
    """
    if isinstance(source, TextSource):
        return source
    if isinstance(source, list | tuple) and source and all(isinstance(document, str) for document in source):
        return TextList(tuple(source))
    if is_dataset(source):
        return DatasetSource(source, text_field)
    if source == STANDARD_LIBRARY:
        return python_standard_library()
    if isinstance(source, str | Path) and (path := path_of("source", source)).exists():
        return _file_source(path, separator, text_field, suffixes)
    if isinstance(source, str) and (name := _HUB_NAME.fullmatch(source)):
        return DatasetSource.from_name(name[1], text_field, split=split, config=config)
    raise InputError(
        f"source: expected a file or folder that exists, {STANDARD_LIBRARY!r}, the name of a Hugging Face dataset, a "
        f"datasets object or a list of texts; got {str(source)[:200]!r}"
    )


def _file_source(path: Path, separator: str | None, text_field: str, suffixes: Sequence[str]) -> FileSource:
    """One file whatever its suffix, or the text files below a folder."""
    if path.is_file():
        return FileSource(path.parent, (path,), separator=separator, text_field=text_field)
    paths = sorted(found for found in path.rglob("*") if FileSource.text_suffix(found) in suffixes and found.is_file())
    if not paths:
        raise InputError(
            f"{path} holds no file that ends in {', '.join(suffixes)} (or one of these and .gz, .bz2 or .xz); "
            "name other endings with suffixes=, or open other formats with the datasets library and give the dataset"
        )
    return FileSource(path, tuple(paths), separator=separator, text_field=text_field)
