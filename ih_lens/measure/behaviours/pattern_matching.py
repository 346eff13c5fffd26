"""Pattern matching (paper, Argument 4): lines of a class, told by an earlier line of the same class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ih_lens.data.behaviours.pattern_lines import (
    ANIMALS,
    COLOURS,
    FRUIT,
    MONTHS,
    N_CLASSES,
    Line,
    draw_lines,
    with_words_exchanged,
)
from ih_lens.data.behaviours.spans import SpannedTokens, span_reader
from ih_lens.data.start_tokens import choose_start_token
from ih_lens.errors import CapabilityError, InputError
from ih_lens.measure.behaviours._base import (
    TARGETS,
    Behaviour,
    BehaviourText,
    BehaviourTexts,
    Entries,
    mean_over,
    some_examples,
)
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

LINES, LABELS, CHANCE, SHARE, SHARE_BY_CHANCE = "lines", "labels", "chance", "share", "share_by_chance"
PER_LINE, PER_NEAR_LINE = "per_line", "per_near_line"
_FEWEST_LINES = 6


@dataclass(frozen=True)
class PatternMatching(Behaviour):
    """Attention from the colons of lines to the labels of earlier lines of the same class.

    Lines are "(month|colour) (animal|fruit): (0-3)", of random classes with random words; no line comes twice. Where a
    tokenizer joins the space with some of the labels only, so that the token before a label would tell which it is,
    there is no space.

    Args:
        n_lines: lines per example; fewer where the context is too short for them.
        n_examples: examples.
        n_words: words of each kind that an example uses, so that lines of other classes share a word.
        first: two lists of first words.
        second: two lists of second words.
        bos: start token, as in `score_heads`.

    Examples:
        >>> PatternMatching(first=(("Monday", "Tuesday"), ("red", "blue")), n_words=2, n_lines=12)
    """

    name: ClassVar[str] = "pattern_matching"
    definition: ClassVar[str] = (
        "attention from the token before a line's label (the colon) to the labels of earlier lines of the same class; "
        "mean over lines that have such, then over examples"
    )
    control: ClassVar[str] = "the same labels in the same order, with the words of the lines exchanged at random"
    details: ClassVar[Mapping[str, str]] = {
        LINES: "attention to any token of earlier lines of the same class",
        LABELS: "attention to the labels of all earlier lines",
        CHANCE: "attention to the labels of all earlier lines, times the share of lines of the same class among them: "
        "its mean over all orders of the classes of earlier lines",
        SHARE: "of the attention to the labels of earlier lines, the share that goes to those of the same class",
        SHARE_BY_CHANCE: "the same share, if the classes of earlier lines stood in random order",
        PER_LINE: "attention to the label of one earlier line of the same class; mean over lines that also have one of "
        "another class that shares a word",
        PER_NEAR_LINE: "attention to the label of one earlier line of another class that shares a word; mean over the "
        "same lines",
    }

    n_lines: int = 24
    n_examples: int = 10
    n_words: int = 6
    first: tuple[tuple[str, ...], tuple[str, ...]] = (MONTHS, COLOURS)
    second: tuple[tuple[str, ...], tuple[str, ...]] = (ANIMALS, FRUIT)
    bos: int | str | None = "auto"

    def texts(self, model: ModelLike, *, seed: int = 0) -> BehaviourTexts:
        """Random lines, as many as fit the context."""
        self._check()
        read = span_reader(model, self.bos)
        gap, labels = _label_ids(read)
        texts: list[BehaviourText] = []
        controls: list[BehaviourText] = []
        n_lines: list[int] = []
        for number in range(self.n_examples):
            generator = np.random.default_rng([seed, number])
            lines = draw_lines(
                self.first, self.second, n_lines=self.n_lines, n_words=self.n_words, gap=gap, generator=generator
            )
            exchanged = with_words_exchanged(lines, generator)
            shown, control = _Lines.of(lines, read, model.cfg.n_ctx), _Lines.of(exchanged, read, model.cfg.n_ctx)
            n_both = min(len(shown.lines), len(control.lines))
            if n_both < _FEWEST_LINES:
                why = f"{n_both} lines fit its context of {model.cfg.n_ctx} tokens, and {_FEWEST_LINES} are needed"
                some_examples("pattern matching", 0, why)
            shown, control = shown.cut(n_both), control.cut(n_both)
            texts.append(BehaviourText(shown.ids, shown.readings(), shown.rivals(labels)))
            controls.append(BehaviourText(control.ids, {TARGETS: control.readings()[TARGETS]}, control.rivals(labels)))
            n_lines.append(n_both)
        line = f"(first) (second):{gap}(0-3)"
        description = {"n_lines": min(n_lines), "line": line, **choose_start_token(model, self.bos).description}
        return BehaviourTexts(tuple(texts), tuple(controls), description)

    def derived(
        self, found: Mapping[str, Float[Tensor, "example layer head_index"]]
    ) -> dict[str, Float[Tensor, "example layer head_index"]]:
        """Shares of the attention to labels."""
        return {SHARE: found[TARGETS] / found[LABELS], SHARE_BY_CHANCE: found[CHANCE] / found[LABELS]}

    def _check(self) -> None:
        at_least("n_examples", self.n_examples, 1)
        at_least("n_lines", self.n_lines, _FEWEST_LINES)
        at_least("n_words", self.n_words, 1)
        words = [{word.casefold() for word in of_kind} for pair in (self.first, self.second) for of_kind in pair]
        if len(words) != N_CLASSES or sum(map(len, words)) != len(set().union(*words)):
            raise InputError("first, second: expected two lists of words each, with no word in two of them")
        n_pairs = N_CLASSES * min(self.n_words, *map(len, words)) ** 2
        if self.n_lines > n_pairs // 2:
            raise InputError(
                f"n_lines: {self.n_lines} different lines need more words; n_words={self.n_words} of lists of "
                f"{min(map(len, words))} are enough for {n_pairs // 2}"
            )


@dataclass(frozen=True)
class _Lines:
    """Lines as tokens.

    Attributes:
        lines: the lines.
        ids: of all of them.
        tokens: positions of each line's tokens.
        labels: position of each line's label.
    """

    lines: tuple[Line, ...]
    ids: tuple[int, ...]
    tokens: tuple[range, ...]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, lines: Sequence[Line], read: Callable[[str], SpannedTokens], n_ctx: int) -> "_Lines":
        """As many lines as fit."""
        spanned = read("".join(line.text for line in lines))
        tokens: list[range] = []
        labels: list[int] = []
        start = 0
        for line in lines:
            label = spanned.of(start + line.label_at, start + line.label_at + 1)
            tokens.append(spanned.of(start, start + len(line.text)))
            labels.append(label.start)
            start += len(line.text)
        n_fitting = sum(of_line.stop <= n_ctx for of_line in tokens)
        return cls(tuple(lines), spanned.ids, tuple(tokens), tuple(labels)).cut(n_fitting)

    def cut(self, n_lines: int) -> "_Lines":
        """The first lines."""
        stop = self.tokens[n_lines - 1].stop if n_lines else 0
        return _Lines(self.lines[:n_lines], self.ids[:stop], self.tokens[:n_lines], self.labels[:n_lines])

    def readings(self) -> dict[str, Entries]:
        """Where to look, from the token before each label that an earlier line of the class has."""
        same = {place: self._earlier(place, _same_class) for place in range(len(self.lines))}
        asked = {place: found for place, found in same.items() if found}
        near = {place: self._earlier(place, _shares_a_word) for place in asked}
        both = {place: found for place, found in near.items() if found}
        return {
            TARGETS: mean_over({self._query(place): self._labels(found) for place, found in asked.items()}),
            LINES: mean_over(
                {self._query(place): [key for of in found for key in self.tokens[of]] for place, found in asked.items()}
            ),
            LABELS: mean_over({self._query(place): self.labels[:place] for place in asked}),
            CHANCE: tuple(
                (self._query(place), key, len(found) / (place * len(asked)))
                for place, found in asked.items()
                for key in self.labels[:place]
            ),
            PER_LINE: self._per_line({place: asked[place] for place in both}),
            PER_NEAR_LINE: self._per_line(both),
        }

    def rivals(self, labels: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Before each label, the other three."""
        return {
            self._query(place): tuple(other for kind, other in enumerate(labels) if kind != line.label)
            for place, line in enumerate(self.lines)
        }

    def _query(self, place: int) -> int:
        return self.labels[place] - 1

    def _labels(self, places: Sequence[int]) -> list[int]:
        return [self.labels[place] for place in places]

    def _earlier(self, place: int, related: Callable[[Line, Line], bool]) -> list[int]:
        return [other for other in range(place) if related(self.lines[other], self.lines[place])]

    def _per_line(self, found: Mapping[int, Sequence[int]]) -> Entries:
        return tuple(
            (self._query(place), key, 1 / (len(others) * len(found)))
            for place, others in found.items()
            for key in self._labels(others)
        )


def _same_class(one: Line, other: Line) -> bool:
    return one.label == other.label


def _shares_a_word(one: Line, other: Line) -> bool:
    return one.label != other.label and (one.words[0] == other.words[0] or one.words[1] == other.words[1])


def _label_ids(read: Callable[[str], SpannedTokens]) -> tuple[str, list[int]]:
    """What stands between colon and label, and the token of each label.

    Raises:
        CapabilityError: if the tokenizer does not tell labels apart by one token each, after the same token.
    """
    for gap in (" ", ""):
        lines = [Line(("a", "b"), kind, gap) for kind in range(N_CLASSES)]
        spanned = read("".join(line.text for line in lines))
        starts = [place * len(line.text) + line.label_at for place, line in enumerate(lines)]
        held = [spanned.of(start, start + 1) for start in starts]
        ids = [spanned.ids[of.start] for of in held if len(of) == 1]
        before = {spanned.ids[of.start - 1] for of in held if of and of.start}
        if len(set(ids)) == N_CLASSES and len(before) == 1:
            return gap, ids
    raise CapabilityError(
        "pattern matching: this tokenizer does not give each of the labels 0, 1, 2 and 3 a token of its own that "
        "follows the same token"
    )
