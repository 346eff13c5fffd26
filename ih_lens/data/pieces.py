"""Text in pieces of bounded size, cut where a byte-level tokenizer would cut as well."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ih_lens.errors import InputError

PIECE_CHARACTERS = 100_000


class Piece(NamedTuple):
    """Part of a document; the documents' pieces follow one another in order."""

    text: str
    ends_document: bool


def pieces_of_lines(lines: Iterable[str], separator: str | None) -> Iterator[Piece]:
    """Documents between lines that hold nothing but the separator; without one, a single document.

    A long document is cut before the newline that ends a line, so that the next piece begins with it: there no
    byte-level tokenizer joins the characters on either side, and the tokens are those of the whole document.
    """
    parts: list[str] = []
    size = 0
    for line in lines:
        if separator is not None and line.rstrip("\n") == separator:
            yield from _last_piece(parts)
            parts, size = [], 0
            continue
        parts.append(line)
        size += len(line)
        if size >= PIECE_CHARACTERS and line.endswith("\n") and not line[:-1][-1:].isspace() and len(line) > 1:
            yield Piece("".join(parts)[:-1], ends_document=False)
            parts, size = ["\n"], 1
    yield from _last_piece(parts)


def pieces_of_text(text: str, where: str = "the text") -> Iterator[Piece]:
    """One document, in pieces if it is long.

    Raises:
        InputError: naming `where`, if half of a character stands in it, which no tokenizer reads.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: character {error.start} is {text[error.start]!r}, half of one; mend the text, such as with "
            "text.encode(errors='replace').decode()"
        ) from error
    if len(text) <= PIECE_CHARACTERS:
        return _last_piece([text])
    return pieces_of_lines(text.splitlines(keepends=True), separator=None)


def _last_piece(parts: list[str]) -> Iterator[Piece]:
    """What is left of a document; nothing for an empty one."""
    text = "".join(parts)
    if text:
        yield Piece(text, ends_document=True)
