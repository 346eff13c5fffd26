"""Prefix matching: attention to the tokens that followed earlier occurrences of the present token."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.measure.attention import (
    AttentionReduction,
    attention_window,
    measurable_tokens,
    measure_attention,
)
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators._base import check_examples, layers_named
from ih_lens.measure.head_evaluators._places import (
    count_places,
    first_kind,
    mean_over_queries,
    out_of_reach,
    prefix_targets,
)
from ih_lens.measure.head_evaluators._repeated import RepeatedTokensEvaluator
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, one_of

READINGS = ("induction", "printed")


def prefix_matching_score(
    model: ModelLike,
    tokens: Tensor,
    *,
    has_bos: bool = False,
    offset: int = 0,
    n_prefix: int = 1,
    reading: str = "induction",
    batch_size: int | None = None,
) -> Float[Tensor, "layer head"]:
    """How much each head attends to what followed earlier occurrences of the present token.

    The targets of a query at position i are all positions j <= i with x_{j-1} = x_i and j-1 < i: the token after
    each earlier occurrence, found from token identity. The query's score is its attention summed over its targets;
    the head's score is the mean over all queries that have a target, then over examples that have such a query.
    A perfect induction head scores 1.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos] with repeats, such as those of `repeated_random_tokens`, with a start token or
            without: a start token occurs only once, so that nothing matches it.
        has_bos: the first column is said to be a start token, and is checked to be one id that occurs nowhere else.
        offset: shift the targets by this many positions (later ones are positive); those after the query are left
            out. Models whose heads match prefixes with an offset of 1, and so score near 0 without it, exist.
        n_prefix: how many tokens must match, the present one and those before it (footnote 7).
        reading: "induction" as above, or "printed": the sentence in the paper's Data Collection taken literally,
            which is the mean of all attention entries from a token to the tokens *before* its earlier occurrences.
            That contradicts the paper's own definition of prefix matching, and induction heads score low on it.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Scores in [0, 1]. NaN for heads of local attention whose window reaches no target.

    Raises:
        InputError: if no query has a target, or the weights or tokens cannot be used.

    Examples:
        >>> scores = prefix_matching_score(model, repeated_random_tokens(model))
        >>> scores.shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    per_entry, shift = _is_printed(reading), _shift(offset, reading)
    tokens = measurable_tokens(model, tokens, min_length=2, has_bos=has_bos)
    at_least("n_prefix", n_prefix, 1)
    reduction = prefix_reduction(model, tokens, [shift], n_prefix=n_prefix, per_entry=per_entry)
    return measure_attention(model, tokens, [reduction], batch_size=batch_size)[0][0]


def prefix_matching_offset_scan(
    model: ModelLike,
    tokens: Tensor,
    offsets: Sequence[int] = range(-2, 4),
    *,
    has_bos: bool = False,
    n_prefix: int = 1,
    batch_size: int | None = None,
) -> Float[Tensor, "offset layer head"]:
    """Prefix matching with the targets shifted by each of several offsets, from one run of the model.

    Arguments and errors are those of `prefix_matching_score`. Offset 0 is its score, -1 attends to the earlier
    occurrences themselves, 1 to the second token after them. An offset for which no query has a target is NaN.

    Examples:
        >>> scan = prefix_matching_offset_scan(model, tokens)
        >>> best_offset = scan.argmax(dim=0) - 2  # per head
    """
    tokens = measurable_tokens(model, tokens, min_length=2, has_bos=has_bos)
    if not offsets:
        raise InputError("offsets: expected at least one, got none")
    reduction = prefix_reduction(model, tokens, offsets, n_prefix=at_least("n_prefix", n_prefix, 1))
    return measure_attention(model, tokens, [reduction], batch_size=batch_size)[0]


@dataclass(frozen=True)
class PrefixMatchingEvaluator(RepeatedTokensEvaluator):
    """Prefix matching on random tokens, repeated after a start token.

    Attributes:
        offset: as in `prefix_matching_score`.
        n_prefix: as there.
        reading: as there.

    Examples:
        >>> score_heads(model, evaluators=[PrefixMatchingEvaluator(n_prefix=2)]).top("prefix_matching", 3)
    """

    name: ClassVar[str] = "prefix_matching"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    definition: ClassVar[str] = (
        "attention summed over the tokens after earlier occurrences of the present token; mean over queries that "
        "have such targets, then over examples"
    )

    offset: int = 0
    n_prefix: int = 1
    reading: str = "induction"

    def defined(self) -> str:
        """The definition with another offset, a longer prefix or the other reading in it."""
        text = self.definition
        if _is_printed(self.reading):
            text = (
                "mean of the attention entries from each token to the tokens before earlier occurrences of the present "
                "token, then over examples"
            )
        if self.n_prefix > 1:
            text = text.replace("the present token", f"the last {self.n_prefix} tokens")
        return f"{text}; targets shifted by {self.offset} positions" if self.offset else text

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:
        """Local attention must reach back to the token after the last occurrence."""
        shift, per_entry = _shift(self.offset, self.reading), _is_printed(self.reading)
        return why_out_of_reach(model, tokens, shift, n_prefix=self.n_prefix, per_entry=per_entry)

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """That of `prefix_matching_score` with this evaluator's start token."""
        check_examples(model, tokens, self.bos)
        return first_kind(
            prefix_reduction(
                model,
                tokens,
                [_shift(self.offset, self.reading)],
                n_prefix=at_least("n_prefix", self.n_prefix, 1),
                per_entry=_is_printed(self.reading),
            )
        )


def prefix_reduction(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    offsets: Sequence[int],
    *,
    n_prefix: int = 1,
    per_entry: bool = False,
) -> AttentionReduction:
    """Attention to targets per query (or per entry), meaned over examples: [offset, layer, head]."""
    counts, distances = _count_targets(model, tokens, offsets, n_prefix, per_entry)
    if not bool(counts.any()):
        raise InputError(
            f"tokens: no token can be matched with an earlier one ({n_prefix} token(s), offsets {list(offsets)}); "
            "prefix matching needs examples in which tokens recur, such as repeated_random_tokens(model)"
        )

    @lru_cache(maxsize=1)  # the same for all layers of a batch
    def places(start: int, stop: int, device: torch.device) -> list[Int[Tensor, "target 3"]]:
        return [prefix_targets(tokens[start:stop], offset, n_prefix).nonzero().to(device) for offset in offsets]

    def attended(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index offset"]:
        of_batch = places(examples.start, examples.stop, attention.pattern.device)
        return torch.stack([_attention_to(attention, targets) for targets in of_batch], dim=-1)

    return mean_over_queries(model, attended, counts, distances)


def why_out_of_reach(
    model: ModelLike, tokens: Int[Tensor, "example pos"], offset: int, *, n_prefix: int = 1, per_entry: bool = False
) -> str | None:
    """Which layers of local attention reach no target, as the reason for NaN; None where all do."""
    _, distances = _count_targets(model, tokens, [offset], n_prefix, per_entry)
    layers = out_of_reach(model, distances)[0].nonzero().flatten().tolist()
    if not layers:
        return None
    windows = sorted({attention_window(model, layer) or 0 for layer in layers})
    return (
        f"{layers_named(layers)}: local attention sees {' or '.join(map(str, windows))} positions, and the nearest "
        f"token to attend to stands {int(distances[0])} positions back; repeat fewer tokens (length=)"
    )


def _is_printed(reading: str) -> bool:
    return one_of("reading", reading, READINGS) == "printed"


def _shift(offset: int, reading: str) -> int:
    """Of the targets; the printed sentence has those before earlier occurrences, two before those after them."""
    return offset - 2 * _is_printed(reading)


def _attention_to(attention: LayerAttention, targets: Int[Tensor, "target 3"]) -> Float[Tensor, "batch head_index"]:
    """Attention summed over targets, given as example, query and key; those of other queries are left out."""
    pattern, (example, query, key) = attention.pattern, targets.T
    query = query - attention.first_query
    is_here = (query >= 0) & (query < pattern.shape[2])
    example, query, key = example[is_here], query[is_here], key[is_here]
    return pattern.new_zeros(pattern.shape[:2]).index_add_(0, example, pattern[example, :, query, key])


def _count_targets(
    model: ModelLike, tokens: Int[Tensor, "example pos"], offsets: Sequence[int], n_prefix: int, per_entry: bool
) -> tuple[Int[Tensor, "example offset"], Int[Tensor, "offset"]]:
    """How many queries (or entries) the mean runs over, and the distance to the nearest target of all."""
    kinds = [partial(prefix_targets, offset=offset, n_prefix=n_prefix) for offset in offsets]
    return count_places(model, tokens, kinds, per_entry=per_entry)
