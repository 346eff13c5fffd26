"""Attention to places that follow from which tokens stand where: what most kinds of induction are made of."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

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
"""How much attention to each place counts: 1 for targets, negative for what they are compared with, else 0."""


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
        _, nearest = _count(model, tokens, self._places_for(model))
        layers = out_of_reach(model, nearest[None])[0].nonzero().flatten().tolist()
        if not layers:
            return None
        return (
            f"{layers_named(layers)}: local attention does not reach the nearest place that counts, {int(nearest)} "
            "positions back; measure with fewer tokens"
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
    same = torch.ones(n_pos, n_pos, dtype=torch.bool).tril(-1) & (tokens[:, :, None] == tokens[:, None, :])
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
    n_queries, nearest = _count(model, tokens, places)
    if not bool(n_queries.any()):
        raise InputError(f"tokens: there is no place that attention could be measured at; {needs}")

    @lru_cache(maxsize=1)  # the same for all layers of a batch
    def of_batch(start: int, stop: int, device: torch.device) -> Weights:
        return places(tokens[start:stop]).to(device)

    def attended(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index"]:
        pattern, first = attention.pattern, attention.first_query
        weights = of_batch(examples.start, examples.stop, pattern.device)
        here = weights[:, first : first + pattern.shape[2], : pattern.shape[3]]
        return torch.einsum("bhqk,bqk->bh", pattern, here.to(pattern))

    def each(sums: Float[Tensor, "example layer head_index"]) -> Float[Tensor, "example layer head_index"]:
        scores = sums / n_queries[:, None, None]  # NaN for examples without a query: none of nothing
        return scores.masked_fill(out_of_reach(model, nearest[None]).T, torch.nan)

    def finish(sums: Float[Tensor, "example layer head_index"]) -> Float[Tensor, "layer head_index"]:
        return each(sums)[n_queries > 0].mean(dim=0)

    return AttentionReduction(attended, finish, by_queries=True, each=each)


def out_of_reach(model: ModelLike, distances: Int[Tensor, "target"]) -> Bool[Tensor, "target layer"]:
    """Layers of local attention that no query of which sees a target, by the distance to the nearest one."""
    windows = [attention_window(model, layer) or model.cfg.n_ctx for layer in range(model.cfg.n_layers)]
    return distances[:, None] >= torch.tensor(windows)


def _count(
    model: ModelLike, tokens: Int[Tensor, "example pos"], places: Places
) -> tuple[Int[Tensor, "example"], Int[Tensor, ""]]:
    """How many queries have a place, and the distance to the nearest one that counts for a head."""
    n_pos = tokens.shape[1]
    ages = torch.arange(n_pos)[:, None] - torch.arange(n_pos)
    counts, nearest = [], torch.tensor(n_pos)
    for examples in batches(model, tokens, None):
        weights = places(tokens[examples])
        counts.append((weights != 0).any(-1).sum(-1))
        nearest = nearest.minimum(ages.masked_fill(~(weights > 0).any(0), n_pos).min())
    return torch.cat(counts), nearest
