"""Attention to places that follow from which tokens stand where: what most kinds of induction are made of."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.measure.attention import AttentionReduction, attention_window, batches
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators._base import AttentionEvaluator, check_examples, layers_named
from ih_lens.measure.head_evaluators._repeated import RepeatedTokensEvaluator
from ih_lens.types import ModelLike

Weights = Float[Tensor, "example query_pos key_pos"]
Places = Callable[[Int[Tensor, "example pos"]], Weights]
"""How much attention to each place counts, -1 to 1: 1 for targets, negative for what they are compared with, else 0."""
Targets = Callable[[Int[Tensor, "example pos"]], Bool[Tensor, "example query_pos key_pos"]]
"""Places that count as 1, and all others as 0."""


@dataclass(frozen=True)
class PlacesEvaluator(AttentionEvaluator):
    """Attention times `places`, summed per query; mean over the queries that have any, then over examples."""

    needs: ClassVar[str]
    """What examples must have, for the error where no query has a place."""

    n_examples: int = 10
    bos: int | str | None = "auto"

    @abstractmethod
    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:
        """How much attention from each query to each key counts."""

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:
        """Local attention must reach back to the nearest place that counts."""
        _, distances = count_places(model, tokens, [self._places_for(model)])
        layers = out_of_reach(model, distances)[0].nonzero().flatten().tolist()
        if not layers:
            return None
        return (
            f"{layers_named(layers)}: local attention does not reach the nearest place that counts, "
            f"{int(distances[0])} positions back; measure with fewer tokens"
        )

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """Attention to these places."""
        check_examples(model, tokens, self.bos)
        return places_reduction(model, tokens, self._places_for(model), needs=self.needs)

    def _places_for(self, model: ModelLike) -> Places:
        return lambda tokens: self.places(model, tokens)


@dataclass(frozen=True)
class RepeatedPlacesEvaluator(RepeatedTokensEvaluator, PlacesEvaluator):
    """The same on repeated random tokens, those of prefix matching."""

    needs: ClassVar[str] = "tokens must recur, as those of repeated_random_tokens(model) do"


def prefix_targets(
    tokens: Int[Tensor, "example pos"], offset: int, n_prefix: int
) -> Bool[Tensor, "example query_pos key_pos"]:
    """Where the queries should attend: `offset` positions after the token that follows each matching prefix."""
    n_pos = tokens.shape[1]
    same = torch.ones(n_pos, n_pos, dtype=torch.bool, device="cpu").tril(-1) & (
        tokens[:, :, None] == tokens[:, None, :]
    )
    matches = same.clone()
    for back in range(1, n_prefix):
        matches[:, :back] = matches[:, :, :back] = False
        matches[:, back:, back:] &= same[:, :-back, :-back]
    shift = offset + 1
    targets = torch.zeros_like(matches)
    kept, sources = slice(max(shift, 0), max(n_pos + min(shift, 0), 0)), slice(max(-shift, 0), max(n_pos - shift, 0))
    targets[:, :, kept] = matches[:, :, sources]
    return targets.tril()


def places_reduction(
    model: ModelLike, tokens: Int[Tensor, "example pos"], places: Places, *, needs: str
) -> AttentionReduction:
    """Attention times places, as a measure; NaN for layers whose attention reaches none of those that count for it.

    Raises:
        InputError: if no query has a place.
    """
    counts, distances = count_places(model, tokens, [places])
    if not bool(counts.any()):
        raise InputError(f"tokens: there is no place that attention could be measured at; {needs}")

    @lru_cache(maxsize=1)  # the same for all layers of a batch
    def of_batch(start: int, stop: int, device: torch.device) -> Weights:
        return places(tokens[start:stop]).to(device)

    def attended(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index 1"]:
        pattern, first = attention.pattern, attention.first_query
        weights = of_batch(examples.start, examples.stop, pattern.device)
        here = weights[:, first : first + pattern.shape[2], : pattern.shape[3]]
        return torch.einsum("bhqk,bqk->bh", pattern, here.to(pattern))[..., None]

    return first_kind(mean_over_queries(model, attended, counts, distances))


def mean_over_queries(
    model: ModelLike,
    attended: Callable[[LayerAttention, slice], Float[Tensor, "batch head_index kind"]],
    counts: Int[Tensor, "example kind"],
    distances: Int[Tensor, "kind"],
) -> AttentionReduction:
    """Attention to several kinds of places, summed by `attended`, as means over queries, then examples: [kind, ...].

    `counts` and `distances` are those of `count_places`.
    """

    def each(sums: Float[Tensor, "example layer head_index kind"]) -> Float[Tensor, "example layer head_index kind"]:
        scores = sums / counts[:, None, None]  # NaN for examples without a query: none of nothing
        # a query's attention is 1 in all, but its entries are rounded and may sum to a little more
        return scores.clamp(-1, 1).masked_fill(out_of_reach(model, distances).T[:, None], torch.nan)

    def finish(sums: Float[Tensor, "example layer head_index kind"]) -> Float[Tensor, "kind layer head_index"]:
        scores = each(sums)
        return torch.stack([scores[has, ..., kind].mean(dim=0) for kind, has in enumerate((counts > 0).T)])

    return AttentionReduction(attended, finish, by_queries=True, each=each)


def first_kind(reduction: AttentionReduction) -> AttentionReduction:
    """A measure of several kinds of places as that of the first: [layer, head]."""
    return replace(
        reduction,
        finish=lambda sums: reduction.finish(sums)[0],
        each=lambda sums: cast(Tensor, reduction.examples(sums))[..., 0],
    )


def out_of_reach(model: ModelLike, distances: Int[Tensor, "target"]) -> Bool[Tensor, "target layer"]:
    """Layers of local attention that no query of which sees a target, by the distance to the nearest one."""
    windows = [attention_window(model, layer) or model.cfg.n_ctx for layer in range(model.cfg.n_layers)]
    return distances[:, None] >= torch.tensor(windows, device="cpu")


def count_places(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    kinds: Sequence[Places | Targets],
    *,
    per_entry: bool = False,
) -> tuple[Int[Tensor, "example kind"], Int[Tensor, "kind"]]:
    """How many queries (or entries) have a place of each kind, and how far the nearest that counts for a head is."""
    n_pos = tokens.shape[1]
    ages = torch.arange(n_pos, device="cpu")[:, None] - torch.arange(n_pos, device="cpu")
    counts, nearest = [], torch.full((len(kinds),), n_pos, device="cpu")
    for examples in batches(model, tokens, None):
        found = [places(tokens[examples]) for places in kinds]
        has_place = [weights != 0 for weights in found]
        counts.append(torch.stack([(has if per_entry else has.any(-1)).flatten(1).sum(-1) for has in has_place], -1))
        batch_nearest = torch.stack([ages.masked_fill(~(weights > 0).any(0), n_pos).min() for weights in found])
        nearest = nearest.minimum(batch_nearest)
    return torch.cat(counts), nearest
