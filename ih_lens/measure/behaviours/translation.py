"""Translation (paper, Argument 4): from one language to the words of another that come next by their meaning."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ih_lens.data.behaviours.sentence_pairs import SentencePair, sentence_pairs
from ih_lens.data.behaviours.spans import SpannedTokens, span_reader
from ih_lens.data.start_tokens import choose_start_token
from ih_lens.measure.behaviours._base import (
    TARGETS,
    Behaviour,
    BehaviourText,
    BehaviourTexts,
    mean_over,
    some_examples,
)
from ih_lens.statistics import fraction
from ih_lens.types import ModelLike

AFTER, BAND = "after", "band"
Targets = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Translation(Behaviour):
    """Attention from a translation to the words of the original that mean what comes next.

    Destinations are the last tokens before a word of the second text; the first word, and destinations whose own token
    occurs in the first text, are left out: a head that matches tokens literally finds nothing there. Pairs without an
    alignment have every token of the second text as destination, and their targets are a band around the diagonal.

    Args:
        pairs: (first, second) or (first, second, alignment) tuples, the path of a .tsv or .jsonl file, or None for
            thirty short sentences in English with French and German, made for the project; see the documentation.
        columns: names of the two columns of a .tsv file whose first line names them, or of the two texts in records,
            such as ("en", "fr").
        band: half the width of the band around the diagonal, as a share of the first text.
        bos: start token, as in `score_heads`.

    Examples:
        >>> Translation(pairs=[("The dog sleeps.", "Le chien dort.", "0-0 1-1 2-2")])
    """

    name: ClassVar[str] = "translation"
    definition: ClassVar[str] = (
        "attention from the token before a word of the second text to the words of the first that are aligned with it "
        "(without alignment: to a band around the diagonal); mean over destinations whose token does not occur in the "
        "first text, then over pairs"
    )
    control: ClassVar[str] = "the second text after the first text of another pair, at the same relative places"
    details: ClassVar[Mapping[str, str]] = {
        AFTER: "attention to the token after the words that are aligned with the present word",
        BAND: "attention to a band around the diagonal, whatever the alignment",
    }

    pairs: Any = None
    columns: tuple[str, str] | None = None
    band: float = 0.1
    bos: int | str | None = "auto"

    def texts(self, model: ModelLike, *, seed: int = 0) -> BehaviourTexts:
        """One example per pair that fits the context and says something."""
        fraction("band", self.band)
        read = span_reader(model, self.bos)
        pairs, source = sentence_pairs(self.pairs, self.columns)
        known = [_Pair.of(pair, pair.first, read) for pair in pairs]
        chosen: list[tuple[BehaviourText, BehaviourText]] = []
        n_ctx = model.cfg.n_ctx
        for place, pair in enumerate(known):
            targets = pair.targets(self.band)
            other = _unrelated(known, place, read, n_ctx, seed) if targets[TARGETS] else None
            if other is not None and len(pair.tokens.ids) <= n_ctx:
                readings = {name: mean_over(found) for name, found in targets.items()}
                moved = {pair.moved_query(q, other): pair.moved_keys(k, other) for q, k in targets[TARGETS].items()}
                control = BehaviourText(other.tokens.ids, {TARGETS: mean_over(moved)})
                chosen.append((BehaviourText(pair.tokens.ids, readings), control))
        why = f"{len(known)} pairs, each longer than its context of {n_ctx} tokens, alone, or without a place to look"
        some_examples("translation", len(chosen), why)
        description = {
            "source": source,
            "n_left_out": len(known) - len(chosen),
            "band": self.band,
            "n_aligned": sum(pair.pair.alignment is not None for pair in known),
            **choose_start_token(model, self.bos).description,
        }
        return BehaviourTexts(tuple(text for text, _ in chosen), tuple(text for _, text in chosen), description)


@dataclass(frozen=True)
class _Pair:
    """A pair as tokens, its first text perhaps another one's.

    Attributes:
        pair: whose second text it is.
        first: the first text.
        tokens: of the whole.
        places: positions of the tokens of the first text, and of the second.
        starts: the character at which each text begins.
    """

    pair: SentencePair
    first: str
    tokens: SpannedTokens
    places: tuple[range, range]
    starts: tuple[int, int]

    @classmethod
    def of(cls, pair: SentencePair, first: str, read: Callable[[str], SpannedTokens]) -> "_Pair":
        before = f"{pair.languages[0]}: "
        between = f"\n{pair.languages[1]}: "
        starts = len(before), len(before) + len(first) + len(between)
        tokens = read(f"{before}{first}{between}{pair.second}")
        places = tokens.of(starts[0], starts[0] + len(first)), tokens.of(starts[1], starts[1] + len(pair.second))
        return cls(pair, first, tokens, places, starts)

    def targets(self, band: float) -> dict[str, Targets]:
        """Every reading, by destination."""
        if self.pair.alignment is None:
            queries = [query for query in self.places[1][:-1] if self._is_new(query)]
            return {TARGETS: self._band(queries, band), AFTER: {}, BAND: self._band(queries, band)}
        firsts, seconds = self._words(self.first, 0), self._words(self.pair.second, 1)
        aligned: dict[int, list[int]] = {}
        for one, other in self.pair.alignment:
            aligned.setdefault(other, []).append(one)
        next_words: Targets = {}
        after: Targets = {}
        for word in range(1, len(seconds)):
            query = seconds[word].start - 1
            if word in aligned and query in self.places[1] and self._is_new(query):
                next_words[query] = tuple(sorted({key for one in aligned[word] for key in firsts[one]}))
                followers = {firsts[one].stop for one in aligned.get(word - 1, [])} & {*self.places[0]}
                after |= {query: tuple(sorted(followers))} if followers else {}
        return {TARGETS: next_words, AFTER: after, BAND: self._band(list(next_words), band)}

    def moved_query(self, query: int, other: "_Pair") -> int:
        """The same token of the second text, where another text stands before it."""
        return query - self.places[1].start + other.places[1].start

    def moved_keys(self, keys: Sequence[int], other: "_Pair") -> tuple[int, ...]:
        """The same relative places of another first text, as many."""
        (mine, _), (its, _) = self.places, other.places
        moved = [round((key - mine.start) * (len(its) - 1) / max(1, len(mine) - 1)) for key in keys]
        free = [place for place in range(len(its)) if place not in moved]
        distinct = sorted(set(moved))
        nearest = sorted(free, key=lambda place: abs(place - moved[0]))[: len(keys) - len(distinct)]
        return tuple(its.start + place for place in sorted([*distinct, *nearest]))

    def _is_new(self, query: int) -> bool:
        """Whether a token was not there before the second text."""
        ids = self.tokens.ids
        return ids[query] not in ids[: self.places[1].start]

    def _band(self, queries: Sequence[int], band: float) -> Targets:
        first, second = self.places
        found: Targets = {}
        for query in queries:
            middle = (query + 1 - second.start + 0.5) / len(second)
            distances = {key: abs((key - first.start + 0.5) / len(first) - middle) for key in first}
            inside = [key for key, distance in distances.items() if distance <= band]
            found[query] = tuple(inside or [min(distances, key=lambda key: distances[key])])
        return found

    def _words(self, text: str, which: int) -> list[range]:
        """Positions of the tokens of each word, without the signs around it."""
        start = self.starts[which]
        found: list[range] = []
        for match in re.finditer(r"\S+", text):
            core = re.search(r"\w(?:.*\w)?", match[0]) or re.search(r".+", match[0])
            begin, end = core.span() if core else (0, len(match[0]))
            found.append(self.tokens.of(start + match.start() + begin, start + match.start() + end))
        return found


def _unrelated(
    known: Sequence[_Pair], place: int, read: Callable[[str], SpannedTokens], n_ctx: int, seed: int
) -> _Pair | None:
    """The second text of a pair after the first text, of like length, of another pair; None where there is none."""
    pair = known[place]
    order = np.random.default_rng([seed, place]).permutation(len(known)).tolist()
    others = [known[other] for other in order if known[other].first != pair.first]
    for other in sorted(others, key=lambda other: abs(len(other.places[0]) - len(pair.places[0]))):
        joined = _Pair.of(pair.pair, other.first, read)
        if len(joined.tokens.ids) <= n_ctx and len(joined.places[1]) == len(pair.places[1]):
            return joined
    return None
