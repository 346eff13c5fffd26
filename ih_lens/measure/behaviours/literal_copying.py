"""Literal copying (paper, Argument 4): text that comes a second time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ih_lens.data.behaviours.repeats import RepeatedText, longest_repeated, repeated_text, text_ids
from ih_lens.data.start_tokens import choose_start_token
from ih_lens.errors import CapabilityError
from ih_lens.measure.behaviours._base import TARGETS, Behaviour, BehaviourText, BehaviourTexts, Entries, mean_over
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, one_of

LAYOUTS = ("spans", "whole")
ELSEWHERE = "elsewhere"
_SHORTEST, _DEFAULT = 24, 256
"""Tokens of an example."""
_SPANS_APART = 4


@dataclass(frozen=True)
class LiteralCopying(Behaviour):
    """Attention from repeated natural text to the token that followed the first time.

    Args:
        text: a list of texts, or a file or folder as `text_examples` takes it; None for stories made for the project.
        layout: "spans": parts of a passage come again at random places of other text, so that no fixed distance
            leads to them; "whole": the passage is repeated as it is.
        n_examples: examples.
        n_pos: tokens per example, start token included; by default 256, or as many as context and text have room for.
        span: tokens of each copy in the layout "spans".
        bos: start token, as in `score_heads`.

    Examples:
        >>> score_behaviours(model, behaviours=[LiteralCopying(layout="whole")])
    """

    name: ClassVar[str] = "literal_copying"
    definition: ClassVar[str] = (
        "attention from tokens of a copied span to the token after the same place of the original; mean over tokens of "
        "copies that the same token follows as in the original, then over examples"
    )
    control: ClassVar[str] = "the same text with another passage in place of the original"
    details: ClassVar[Mapping[str, str]] = {
        ELSEWHERE: "attention at the distances that lead other copies of the same example to their originals, mean "
        "over these distances"
    }

    text: Any = None
    layout: str = "spans"
    n_examples: int = 10
    n_pos: int | None = None
    span: int = 16
    bos: int | str | None = "auto"

    def texts(self, model: ModelLike, *, seed: int = 0) -> BehaviourTexts:
        """Examples drawn from the text, at random places."""
        one_of("layout", self.layout, LAYOUTS)
        ids, source = text_ids(model, self.text)
        if model.cfg.n_ctx < _SHORTEST:
            raise CapabilityError(
                f"literal copying needs a context of at least {_SHORTEST} tokens, and this model has {model.cfg.n_ctx}"
            )
        start = choose_start_token(model, self.bos)
        n_pos = self._length(model.cfg.n_ctx, len(ids))
        span = min(at_least("span", self.span, 2), n_pos // _SPANS_APART - 1)
        drawn = [
            repeated_text(
                ids,
                n_pos=n_pos,
                span=span,
                layout=self.layout,
                start=start.id,
                generator=np.random.default_rng([seed, number]),
            )
            for number in range(at_least("n_examples", self.n_examples, 1))
        ]
        readings = [_readings(text) for text in drawn]
        description = {"source": source, "n_pos": n_pos, "span": span, "layout": self.layout, **start.description}
        return BehaviourTexts(
            tuple(BehaviourText(text.ids, read) for text, read in zip(drawn, readings, strict=True)),
            tuple(
                BehaviourText(text.control_ids, {TARGETS: read[TARGETS]})
                for text, read in zip(drawn, readings, strict=True)
            ),
            description,
        )

    def _length(self, n_ctx: int, n_ids: int) -> int:
        """Tokens per example; a text that is too short even for the shortest is refused where it is cut."""
        if self.n_pos is not None:
            return min(at_least("n_pos", self.n_pos, _SHORTEST), n_ctx)
        return min(_DEFAULT, n_ctx, max(_SHORTEST, longest_repeated(min(n_ids, 2 * _DEFAULT), self.layout)))


def _readings(text: RepeatedText) -> dict[str, Entries]:
    targets: dict[int, tuple[int, ...]] = {}
    elsewhere: list[tuple[int, int, int]] = []
    distances = {copy - original for copy, original, _ in text.copies}
    for copy, original, length in text.copies:
        for step in range(length - 1):
            query, key = copy + step, original + step + 1
            targets[query] = (key,)
            others = [query + 1 - distance for distance in distances if query + 1 - distance not in (key, query + 1)]
            reached = [other for other in others if other >= 0]
            elsewhere += [(query, other, len(reached)) for other in reached]
    n_queries = len({query for query, _, _ in elsewhere})
    return {
        TARGETS: mean_over(targets),
        ELSEWHERE: tuple((query, key, 1 / (n * n_queries)) for query, key, n in elsewhere),
    }
