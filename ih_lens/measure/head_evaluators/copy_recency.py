"""Which of several earlier copies: attention to what followed the latest, the earliest, and each between."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.attention import measurable_tokens, measure_attention
from ih_lens.measure.head_evaluators._places import (
    RepeatedPlacesEvaluator,
    Weights,
    places_reduction,
    prefix_targets,
)
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

_NEEDS = "tokens must occur at least {} times, as those of repeated_random_tokens(model, repeats=4) do"


def attention_by_copy(
    model: ModelLike, tokens: Tensor, *, n_copies: int = 3, batch_size: int | None = None
) -> Float[Tensor, "copy layer head"]:
    """Attention to what followed each of several earlier occurrences of the present token, the latest first.

    Only queries with exactly `n_copies` earlier occurrences count, so that all entries are means over the same queries.
    The sum over copies is the prefix matching of these queries, and an entry over the sum the share of that copy.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos] in which tokens recur.
        n_copies: how many earlier occurrences.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Attention in [0, 1], [copy, layer, head]: copy 0 is the latest, copy n_copies - 1 the earliest.

    Raises:
        InputError: if no token has so many earlier occurrences, or the weights or tokens cannot be used.

    Examples:
        >>> profile = attention_by_copy(model, repeated_random_tokens(model, repeats=4))
        >>> profile[0] / profile.sum(dim=0)  # the share of the latest of three, per head
    """
    tokens = measurable_tokens(model, tokens, min_length=2)
    needs = _NEEDS.format(at_least("n_copies", n_copies, 1) + 1)
    reductions = [
        places_reduction(model, tokens, partial(_at_rank, rank=rank, n_copies=n_copies), needs=needs)
        for rank in range(n_copies)
    ]
    return torch.stack(measure_attention(model, tokens, reductions, batch_size=batch_size))


@dataclass(frozen=True)
class NearestCopyEvaluator(RepeatedPlacesEvaluator):
    """Attention to what followed the latest copy, less the mean of that to the others; 1 for a nearest-only head.

    Examples:
        >>> score_heads(model, evaluators=["nearest_copy", "farthest_copy"]).top("nearest_copy", 3)
    """

    name: ClassVar[str] = "nearest_copy"
    latest: ClassVar[bool] = True
    """Whether the copy that counts for itself is the latest; else the earliest."""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    definition: ClassVar[str] = (
        "attention to the token after the latest earlier occurrence of the present token, less the mean of that to the "
        "tokens after the other ones; mean over queries with at least two, then over examples"
    )
    needs: ClassVar[str] = _NEEDS.format(3)

    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:  # noqa: ARG002
        """1 after the chosen occurrence, -1 spread over the others, for queries with at least two."""
        ranks, n_copies = _ranks(tokens)
        is_target = ranks > 0
        chosen = is_target & (ranks == (1 if self.latest else n_copies))
        others = is_target & ~chosen
        return (chosen.float() - others / (n_copies - 1).clamp(min=1)) * (n_copies > 1)


@dataclass(frozen=True)
class FarthestCopyEvaluator(NearestCopyEvaluator):
    """Attention to what followed the earliest copy, less the mean of that to the others; 1 for a farthest-only head.

    Examples:
        >>> score_heads(model, evaluators=["nearest_copy", "farthest_copy"]).top("farthest_copy", 3)
    """

    name: ClassVar[str] = "farthest_copy"
    latest: ClassVar[bool] = False
    definition: ClassVar[str] = (
        "attention to the token after the earliest occurrence of the present token, less the mean of that to the "
        "tokens after the other earlier ones; mean over queries with at least two, then over examples"
    )


def _ranks(
    tokens: Int[Tensor, "example pos"],
) -> tuple[Int[Tensor, "example query_pos key_pos"], Int[Tensor, "example query_pos 1"]]:
    """Induction targets numbered from 1, the latest first (0 elsewhere), and how many each query has."""
    targets = prefix_targets(tokens, 0, 1)
    numbered = targets.flip(-1).cumsum(-1).flip(-1) * targets
    return numbered, targets.sum(-1, keepdim=True)


def _at_rank(tokens: Int[Tensor, "example pos"], *, rank: int, n_copies: int) -> Weights:
    ranks, found = _ranks(tokens)
    return ((ranks == rank + 1) & (found == n_copies)).float()
