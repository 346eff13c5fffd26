"""Skip-trigrams: what a head that only sees tokens attends to and predicts, read off its weights."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import random_tokens
from ih_lens.data.streams import Stream, random_words
from ih_lens.errors import CapabilityError
from ih_lens.estimates import Estimate
from ih_lens.measure.attention import measurable_tokens, reduce_attention
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import require_causal, require_no_post_norms
from ih_lens.models.effective import EffectiveWeights, effective_weights
from ih_lens.models.matmul import fastest_float32
from ih_lens.models.wrapped_model import attention_scale
from ih_lens.results import json_safe
from ih_lens.types import HeadSpelling, ModelLike
from ih_lens.validate import at_least, finite_weights, head_index

_SOURCES_AT_ONCE, _OTHERS_AT_ONCE = 256, 2048
"""Of the products of all tokens with all, so few that they stay in a CPU's caches."""


@torch.no_grad()
def skip_trigrams(model: ModelLike, head: HeadSpelling, *, k: int = 20) -> pd.DataFrame:
    """The strongest triples [source ... destination -> out] of a head, of all d_vocab^3 there are.

    The strength of a triple is what the destination's attention score gives to the source beyond what it gives to the
    mean token (never below zero), times what the source, where it is attended to, adds to the logit of the token that
    comes out: max(0, W_E[d] W_Q W_K^T (W_E[s] - mean W_E)^T / scale) * W_E[s] W_V W_O W_U[:, o]. No more than
    d_vocab numbers per source are formed at a time: the k strongest triples belong to the k sources whose own strongest
    triple is largest, and within a source to its k largest factors of both kinds.

    Effective weights are used (norms' gain and centring in them, their scale and all biases left out), and positions
    do not enter. In layer 0 this is all that the head does with tokens; in later layers it is the part of the direct
    path from embedding to unembedding, without what earlier layers write.

    Args:
        model: any HookedTransformer.
        head: which.
        k: how many triples.

    Returns:
        The strongest first: `source`, `destination`, `out` (ids), `attention` (the first factor, a score before
        the softmax), `logit` (the second, in nats per unit of the norm's scale) and `strength`. Fewer than k rows where
        fewer are above zero.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream, input and output vocabularies differ,
            or the model does not predict each token from those before it.
        InputError: if the head does not exist, or weights are not finite.

    Examples:
        >>> triples = skip_trigrams(model, "L0H3", k=5)
        >>> triples[["source", "destination", "out", "strength"]]

    After Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits" (one-layer models).
    """
    require_causal(model)
    require_no_post_norms(model, "measuring with effective weights")
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        raise CapabilityError("skip-trigrams need a model whose output vocabulary is its input vocabulary")
    at_least("k", k, 1)
    place = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    finite_weights(model)
    with fastest_float32():
        factors = _Factors.of(effective_weights(model), place.layer, place.head, attention_scale(model, place.layer))
        best = factors.strongest()
        sources = best.topk(min(k, len(best))).indices
        triples = _triples(*factors.rows(sources), sources, k)
    table = pd.DataFrame(triples, columns=["source", "destination", "out", "attention", "logit"])
    table["strength"] = table["attention"] * table["logit"]
    whole = table.loc[table["strength"] > 0].astype({"source": int, "destination": int, "out": int})
    ordered = whole.sort_values("strength", ascending=False, kind="stable").head(k).reset_index(drop=True)
    ordered.attrs = {"head": str(place), "direct_path_only": place.layer > 0}
    return ordered


@dataclass(frozen=True)
class _Factors:
    """Both factors of the strength, as products of small matrices.

    Attributes:
        queries: of all tokens, divided by the scale of attention.
        keys: of all tokens, less their mean.
        values: of all tokens.
        raised: W_O W_U, what a value adds to every logit.
    """

    queries: Float[Tensor, "d_vocab d_head"]
    keys: Float[Tensor, "d_vocab d_head"]
    values: Float[Tensor, "d_vocab d_head"]
    raised: Float[Tensor, "d_head d_vocab"]

    @classmethod
    def of(cls, weights: EffectiveWeights, layer: int, head: int, scale: float) -> "_Factors":
        """Of one head."""
        queries, keys, values = (
            weights.W_E @ matrix[layer, head] for matrix in (weights.W_Q, weights.W_K, weights.W_V)
        )
        return cls(queries / scale, keys - keys.mean(dim=0), values, weights.W_O[layer, head] @ weights.W_U)

    def strongest(self) -> Float[Tensor, "source"]:
        """The strength of each source's strongest triple."""
        return _row_maxima(self.keys, self.queries.T).clamp_min(0) * _row_maxima(self.values, self.raised)

    def rows(
        self, sources: Int[Tensor, "source"]
    ) -> tuple[Float[Tensor, "source destination"], Float[Tensor, "source out"]]:
        """Attention from every destination to some sources, and what these then add to every logit."""
        sources = sources.to(self.keys.device)
        return (self.keys[sources] @ self.queries.T).clamp_min(0), self.values[sources] @ self.raised


def _row_maxima(left: Float[Tensor, "n d_head"], right: Float[Tensor, "d_head m"]) -> Float[Tensor, "n"]:
    """The largest entry of each row of a product of which only pieces are formed."""
    columns = [part.contiguous() for part in right.split(_OTHERS_AT_ONCE, dim=1)]
    return torch.cat(
        [
            torch.stack([(rows @ part).amax(dim=1) for part in columns]).amax(dim=0)
            for rows in left.split(_SOURCES_AT_ONCE)
        ]
    )


def _triples(
    attention: Float[Tensor, "source destination"],
    logits: Float[Tensor, "source out"],
    sources: Int[Tensor, "source"],
    k: int,
) -> Float[np.ndarray, "triple five"]:
    """The k strongest triples of each source, with their factors."""
    size = min(k, attention.shape[1])
    attended, destinations = attention.topk(size, dim=1)
    raised, outs = logits.topk(size, dim=1)
    columns = [
        sources.to(attention.device)[:, None, None].double().expand(-1, size, size),
        destinations[:, :, None].double().expand(-1, size, size),
        outs[:, None, :].double().expand(-1, size, size),
        attended[:, :, None].double().expand(-1, size, size),
        raised[:, None, :].double().expand(-1, size, size),
    ]
    return torch.stack(columns, dim=-1).flatten(0, 2).cpu().numpy()


def context_free_attention(
    model: ModelLike,
    *,
    length: int = 30,
    n_examples: int = 20,
    seed: int = 0,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
) -> Estimate:
    """Whether a head's attention follows tokens, wherever they stand, or positions and neighbours.

    Each example is random tokens, then one of them again, and the same tokens in another order, with the same last
    one. Of the last token's attention a, over the others and the start token, in both orders the score is

    sum over tokens of min(a, a') - sum over positions of min(a, a').

    A head that finds its tokens by what they are, as skip-trigram heads do, gives each the same share in both orders:
    the first sum is 1. One that attends to a position gives the second 1. A head that attends to everything alike has 1
    for both, and an induction head, for which it matters what stands before a token, 0 for both.

    Args:
        model: any HookedTransformer.
        length: random tokens per example.
        n_examples: pairs of orders.
        seed: of tokens and orders.
        bos: start token, as in `repeated_random_tokens`.
        batch_size: examples per run of the model.

    Returns:
        [layer, head], -1 to 1, with its spread over examples.

    Raises:
        InputError: if so many tokens do not fit the context or the vocabulary.

    Examples:
        >>> follows_tokens = context_free_attention(model)
        >>> follows_tokens.value.sel(layer=0, head=3).item(), follows_tokens.stderr.sel(layer=0, head=3).item()
        (0.71, 0.02)
    """
    at_least("length", length, 4)
    drawn = random_tokens(model, length=length, n_examples=n_examples, seed=seed, bos=bos)
    n_start = drawn.shape[1] - length
    orders = _orders(n_examples, length, seed) + n_start
    first, second = (torch.cat([drawn[:, :n_start], drawn.gather(1, order), drawn[:, -1:]], dim=1) for order in orders)
    places = [torch.cat([torch.arange(n_start, device="cpu").expand(n_examples, -1), order], dim=1) for order in orders]

    def last_row(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index key_pos"]:  # noqa: ARG001
        return attention.pattern[:, :, -1]

    measurable_tokens(model, first)
    rows = [reduce_attention(model, tokens, last_row, batch_size=batch_size) for tokens in (first, second)]
    # the token itself stands last in both orders, so that its share is in both sums
    on_positions = torch.minimum(*rows).sum(dim=-1)
    by_token = [row[..., :-1].gather(-1, _inverse(place, row)) for row, place in zip(rows, places, strict=True)]
    on_tokens = torch.minimum(*by_token).sum(dim=-1) + torch.minimum(rows[0][..., -1], rows[1][..., -1])
    scores = (on_tokens - on_positions).double().numpy()
    dims = ("example", "layer", "head")
    labels = {"layer": np.arange(scores.shape[1]), "head": np.arange(scores.shape[2])}
    about = provenance(
        model,
        measure="context_free_attention",
        definition="overlap of the last token's attention in two orders of the context by token less that by position",
        length=length,
        seed=seed,
    )
    return Estimate.from_examples(
        xr.DataArray(scores, labels, dims, "context_free_attention"), attrs={**json_safe(about)}
    )


def _orders(n_examples: int, length: int, seed: int) -> Int[Tensor, "two example pos"]:
    """Two random orders of 0 .. length - 1 for each example."""
    words = random_words(seed, Stream.ORDER, 0, 2 * n_examples * length).reshape(2, n_examples, length)
    return torch.from_numpy(words.argsort(axis=-1, kind="stable"))


def _inverse(places: Int[Tensor, "example pos"], like: Float[Tensor, "example layer head_index _"]) -> Tensor:
    """Where each token of the first draw stands in an order, for every head."""
    return places.argsort(dim=1)[:, None, None].expand(-1, like.shape[1], like.shape[2], -1)
