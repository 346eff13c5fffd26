"""Text in which passages come a second time, cut and joined as tokens so that both copies are the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ih_lens.data.behaviours.spans import require_tokenizer
from ih_lens.data.sources import END_OF_TEXT, text_source
from ih_lens.data.text_examples import text_encoder
from ih_lens.errors import InputError

SAMPLE_STORIES = "the stories of ih_lens"
"""What results call the sample."""
_MOST_CHARACTERS = 1_000_000
"""How much of a longer text is read."""


@dataclass(frozen=True)
class RepeatedText:
    """One text with its copies, and the same text without the originals.

    Attributes:
        ids: the text.
        control_ids: other text where the originals stand; all else is the same.
        copies: per copy its first position, the first position of what it copies, and its length.
    """

    ids: tuple[int, ...]
    control_ids: tuple[int, ...]
    copies: tuple[tuple[int, int, int], ...]


def text_ids(model: Any, text: Any = None) -> tuple[list[int], str]:
    """The ids of a text (what `text_examples` reads; the sample for None), and what to call it.

    Raises:
        CapabilityError: if the model has no tokenizer.
        InputError: if the text cannot be read.
    """
    encode = text_encoder(require_tokenizer(model))
    if text is None:
        sample = files("ih_lens.data.behaviours").joinpath("stories.txt").read_text(encoding="utf8")
        return encode([sample])[0], SAMPLE_STORIES
    pieces: list[str] = []
    for piece in text_source(text, separator=END_OF_TEXT).pieces():
        pieces.append(piece.text)
        if sum(map(len, pieces)) > _MOST_CHARACTERS:
            break
    return [number for ids in encode(pieces) for number in ids], str(text) if isinstance(text, str | Path) else "given"


def repeated_text(
    ids: Sequence[int], *, n_pos: int, span: int, layout: str, start: int | None, generator: np.random.Generator
) -> RepeatedText:
    """A passage, and after it copies of parts of it (or of all of it).

    Args:
        ids: of a text that is long enough.
        n_pos: positions in all, start token included.
        span: tokens of each copy, for the layout "spans".
        layout: "spans": other text, into which spans of the passage are put, in random order and at random places;
            "whole": the passage once more.
        start: start token.
        generator: of all that is random.

    Raises:
        InputError: if the text is too short.
    """
    first = [] if start is None else [start]
    n_free = n_pos - len(first)
    n_passage, n_needed = _sizes(n_free, layout)
    if len(ids) < n_needed:
        raise InputError(
            f"text: it has {len(ids)} tokens, and examples of {n_pos} need at least {n_needed}; give more text, or "
            "ask for shorter examples (n_pos=)"
        )
    turned = np.roll(
        np.asarray(ids), -int(generator.integers(len(ids)))
    )  # the end of the text is followed by its start
    passage, other = turned[:n_passage].tolist(), turned[n_passage : 2 * n_passage].tolist()
    if layout == "whole":
        second, copies = passage, ((len(first) + n_passage, len(first), n_passage),)
    else:
        filler = turned[2 * n_passage : n_needed].tolist()
        second, copies = _with_spans(passage, filler, span, len(first), generator)
    return RepeatedText((*first, *passage, *second), (*first, *other, *second), copies)


def longest_repeated(n_ids: int, layout: str) -> int:
    """How many positions, without a start token, examples of a text can have at most."""
    return max(n_free for n_free in range(n_ids + 1) if _sizes(n_free, layout)[1] <= n_ids)


def _sizes(n_free: int, layout: str) -> tuple[int, int]:
    """Tokens of the passage, and of all text that an example and its control are made of."""
    n_passage = n_free // 2 if layout == "whole" else n_free * 2 // 5
    return n_passage, 2 * n_passage if layout == "whole" else n_passage + n_free


def _with_spans(
    passage: list[int], filler: list[int], span: int, offset: int, generator: np.random.Generator
) -> tuple[list[int], tuple[tuple[int, int, int], ...]]:
    """As much text as filler, about two thirds of it disjoint spans of the passage; and where these stand."""
    n_spans = max(1, min(len(passage) // span, 2 * len(filler) // (3 * span)))
    n_between = len(filler) - n_spans * span
    free = len(passage) - n_spans * (span - 1)
    sources = np.sort(generator.choice(free, n_spans, replace=False)) + np.arange(n_spans) * (span - 1)
    sources = generator.permutation(sources)
    places = np.sort(generator.choice(n_between, min(n_spans, n_between), replace=False)) + 1
    second: list[int] = []
    copies: list[tuple[int, int, int]] = []
    used = 0
    for place, source in zip(places.tolist(), sources.tolist(), strict=False):
        second += filler[used:place]
        used = place
        copies.append((offset + len(passage) + len(second), offset + source, span))
        second += passage[source : source + span]
    return second + filler[used : used + len(filler) - len(second)], tuple(copies)
