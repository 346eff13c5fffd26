"""Aligned texts in two languages: a sample made for the project, or what the user gives."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ih_lens.errors import InputError

SAMPLE_SENTENCES = "the sentences of ih_lens"
"""What results call the sample."""
_EXPECTED = (
    "expected pairs of texts (first, second) or (first, second, alignment), or the path of a .tsv or .jsonl file with "
    "one pair per line"
)


@dataclass(frozen=True)
class SentencePair:
    """A sentence (or paragraph) and its translation.

    Attributes:
        first: the text.
        second: its translation.
        alignment: pairs (word of `first`, word of `second`) that mean the same, zero-based; words are what white space
            separates. None where it is not known.
        languages: what stands before the two.
    """

    first: str
    second: str
    alignment: tuple[tuple[int, int], ...] | None = None
    languages: tuple[str, str] = ("EN", "FR")

    def __post_init__(self) -> None:
        if not self.first.strip() or not self.second.strip():
            raise InputError(f"pairs: expected two texts, got {self.first[:40]!r} and {self.second[:40]!r}")
        n_first, n_second = len(self.first.split()), len(self.second.split())
        for one, other in self.alignment or ():
            if not 0 <= one < n_first or not 0 <= other < n_second:
                raise InputError(
                    f"alignment: {one}-{other} does not fit {n_first} and {n_second} words ({self.first[:40]!r}); "
                    "words are counted from 0, and separated by white space"
                )


def sentence_pairs(source: Any = None, columns: tuple[str, str] | None = None) -> tuple[list[SentencePair], str]:
    """Pairs, and what to call them.

    Args:
        source: pairs of texts as tuples, each with an alignment as a third entry where it is known, written "0-0 1-2"
            or as pairs of numbers; the path of a file with one pair per line, .tsv (first, second, and optionally
            alignment, separated by tabs) or .jsonl (records with "first", "second", and optionally "alignment",
            "first_language" and "second_language"); None for the sample.
        columns: names of the two columns of a .tsv file whose first line names them, or of the two texts in records,
            such as ("en", "fr"); these names, in capitals, then stand before the texts.

    Raises:
        InputError: if it is something else, or empty.
    """
    if source is None:
        text = files("ih_lens.data.behaviours").joinpath("sentences.jsonl").read_text(encoding="utf8")
        return list(_from_records(text)), SAMPLE_SENTENCES
    if isinstance(source, str | Path):
        pairs, name = _from_file(Path(source).expanduser(), columns), str(source)
    elif isinstance(source, Sequence):
        pairs, name = [_from_entry(entry) for entry in source], "given"
    else:
        raise InputError(f"translations: {_EXPECTED}; got {type(source).__name__}")
    if not pairs:
        raise InputError(f"translations: {_EXPECTED}; got none")
    return pairs, name


def _from_file(path: Path, columns: tuple[str, str] | None) -> list[SentencePair]:
    try:
        text = path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"translations: {path} cannot be read as text ({error}); {_EXPECTED}") from error
    if path.suffix == ".jsonl":
        return list(_from_records(text, columns))
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if columns is None:
        return [_from_entry(tuple(row)) for row in rows]
    header = rows[0] if rows else []
    if not set(columns) <= set(header):
        raise InputError(f"columns: expected two of those that {path} names in its first line, {header}; got {columns}")
    records = [json.dumps(dict(zip(header, row, strict=False))) for row in rows[1:]]
    return list(_from_records("\n".join(records), columns))


def _from_records(text: str, columns: tuple[str, str] | None = None) -> Iterator[SentencePair]:
    first, second = columns or ("first", "second")
    named = (first.upper(), second.upper()) if columns else ("EN", "FR")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
            languages = (str(record.get("first_language", named[0])), str(record.get("second_language", named[1])))
            yield SentencePair(str(record[first]), str(record[second]), _alignment(record.get("alignment")), languages)
        except (ValueError, KeyError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"translations: record {number} has no texts {first!r} and {second!r} ({error})"
            ) from error


def _from_entry(entry: Any) -> SentencePair:
    if isinstance(entry, SentencePair):
        return entry
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) not in (2, 3):
        of_more = 'columns=("en", "fr") names the two of a file with more columns; '
        raise InputError(f"translations: {_EXPECTED}; {of_more}got an entry {str(entry)[:60]!r}")
    first, second = entry[:2]
    if not isinstance(first, str) or not isinstance(second, str):
        raise InputError(f"translations: {_EXPECTED}; got an entry {str(entry)[:60]!r}")
    return SentencePair(first, second, _alignment(entry[2] if len(entry) == 3 else None))


def _alignment(written: Any) -> tuple[tuple[int, int], ...] | None:
    """From text like "0-0 1-2", or pairs of numbers."""
    if written is None or written == "":
        return None
    try:
        parts = [part.split("-") for part in written.split()] if isinstance(written, str) else list(written)
        return tuple((int(one), int(other)) for one, other in parts)
    except (TypeError, ValueError) as error:
        raise InputError(
            f'alignment: expected pairs of word numbers like "0-0 1-2", got {str(written)[:40]!r}'
        ) from error
