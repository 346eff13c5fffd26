"""Associative memories of an induction circuit, read from its weights (Bietti et al. 2023)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import token_pool
from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import differing_vocabularies, require_causal, require_no_post_norms
from ih_lens.models.effective import fold_embedding, layer_matrix, plain_matrix, precise, unembedding_columns
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import json_safe
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import at_least, finite_weights, head_index

MEMORIES = ("position", "key", "output")


@torch.no_grad()
def memory_recall(
    model: ModelLike,
    head: HeadSpelling,
    previous: HeadSpelling,
    *,
    tokens: Tensor | Sequence[int] | None = None,
    n_tokens: int = 1000,
    n_pos: int | None = None,
    seed: int = 0,
) -> xr.DataArray:
    """For which share of tokens each memory of an induction circuit recalls the right one, from weights alone.

    With e_t the effective embedding of a token, p_i an added position, and a previous-token head P below an induction
    head H (Bietti et al. 2023, "Birth of a Transformer: A Memory Viewpoint"):

    - "position": for position i, is p_j W_K (p_i W_Q)^T of P largest, of all j <= i, at j = i - 1?
    - "key": for token t, is e_s W_V W_O (of P) W_K (e_t W_Q)^T (of H) largest, of all tokens s, at s = t?
    - "output": for token t, does e_t W_V W_O of H raise, of all tokens, t's logit most?

    Effective weights: LayerNorm's gain and centring in them, its scale and all biases left out. Only direct paths:
    what a first MLP makes of the embedding is not in it.

    Args:
        model: any HookedTransformer.
        head: the induction head, like "L1H4".
        previous: the previous-token head, of an earlier layer.
        tokens: ids [token] among which each memory chooses; by default all that a tokenizer can produce, or
            `n_tokens` of them drawn from the seed where there are more.
        n_tokens: see there.
        n_pos: the first so many positions; all of the context by default.
        seed: of the choice of tokens.

    Returns:
        [memory], shares from 0 to 1; the coordinate `chance` says what guessing gives, `n` over how many tokens or
        positions. NaN for "position" where positions are not added (rotary embeddings, ALiBi), and for "output" where
        input and output tokens differ.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream.
        InputError: if heads or tokens do not exist, the previous-token head is of no earlier layer, or weights hold
            NaN or infinity.

    Examples:
        >>> memory_recall(model, "L1H4", "L0H3").to_series()
        memory
        position    0.98
        key         1.00
        output      1.00
        Name: memory_recall, dtype: float64
    """
    require_causal(model)
    require_no_post_norms(model, "measuring with effective weights")
    finite_weights(model)
    later, earlier = (head_index(name, model.cfg.n_layers, model.cfg.n_heads) for name in (head, previous))
    if earlier.layer >= later.layer:
        raise InputError(f"previous: expected a head of a layer before that of {later}, got {earlier}")
    ids = _chosen(model, tokens, at_least("n_tokens", n_tokens, 1), seed)
    n_asked: int = model.cfg.n_ctx if n_pos is None else min(at_least("n_pos", n_pos, 2), model.cfg.n_ctx)
    with fastest_float32():
        recalled = [_position(model, earlier, n_asked), _key(model, later, earlier, ids), _output(model, later, ids)]
    chance = [float((1 / torch.arange(2, n_asked + 1, device="cpu")).mean()), 1 / len(ids), 1 / len(ids)]
    attributes = provenance(
        model,
        measure="memory_recall",
        definition="share of tokens (positions) for which the memory's largest entry is the right one",
        head=str(later),
        previous=str(earlier),
        seed=seed,
        range=[0.0, 1.0],
        undefined="positions are not added in this model, or its output tokens are others",
    )
    labels: dict[str, Any] = {"memory": list(MEMORIES)}
    found = xr.DataArray(recalled, labels, ("memory",), "memory_recall", json_safe(attributes))
    return found.assign_coords(chance=("memory", chance), n=("memory", [n_asked - 1, len(ids), len(ids)]))


def _chosen(model: ModelLike, tokens: Tensor | Sequence[int] | None, n_tokens: int, seed: int) -> Int[Tensor, "token"]:
    if tokens is None:
        pool = torch.from_numpy(token_pool(model, share=0.0).ids)
        if len(pool) <= n_tokens:
            return pool
        return pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed), device="cpu")[:n_tokens]]
    ids = torch.as_tensor(tokens, device="cpu").detach()
    if ids.ndim != 1 or ids.is_floating_point() or not len(ids) or len(ids.unique()) < len(ids):
        raise InputError("tokens: expected different ids [token], at least one")
    if int(ids.min()) < 0 or int(ids.max()) >= model.cfg.d_vocab:
        raise InputError(f"tokens: an id lies outside the vocabulary of {model.cfg.d_vocab}")
    return ids.long()


def _embedded(model: ModelLike, ids: Int[Tensor, "token"]) -> Float[Tensor, "token d_model"]:
    W_E = cast(Any, model).embed.W_E
    return fold_embedding(model, precise(W_E[ids.to(W_E.device)]))


def _position(model: ModelLike, head: HeadIndex, n_pos: int) -> float:
    """Of the previous-token head."""
    kind = model.cfg.positional_embedding_type
    if kind not in ("standard", "shortformer"):
        return float("nan")
    matrix = plain_matrix if kind == "shortformer" else layer_matrix  # these positions are added behind the norm
    positions = precise(cast(Any, model).pos_embed.W_pos[:n_pos])
    W_Q, W_K = (matrix(model, name, head.layer)[head.head].to(positions) for name in ("W_Q", "W_K"))
    scores = positions @ W_Q @ (positions @ W_K).T
    scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return float((scores[1:].argmax(dim=1).cpu() == torch.arange(n_pos - 1, device="cpu")).double().mean())


def _key(model: ModelLike, head: HeadIndex, previous: HeadIndex, ids: Int[Tensor, "token"]) -> float:
    """Of the induction head, for what the previous-token head wrote."""
    embedded = _embedded(model, ids)
    written = embedded
    for name in ("W_V", "W_O"):
        written = written @ layer_matrix(model, name, previous.layer)[previous.head].to(embedded)
    W_Q, W_K = (layer_matrix(model, name, head.layer)[head.head].to(embedded) for name in ("W_Q", "W_K"))
    return _share_on_diagonal(embedded @ W_Q @ (written @ W_K).T)


def _output(model: ModelLike, head: HeadIndex, ids: Int[Tensor, "token"]) -> float:
    """Of the induction head's output."""
    if differing_vocabularies(model, "memory recall"):
        return float("nan")
    written = _embedded(model, ids)
    for name in ("W_V", "W_O"):
        written = written @ layer_matrix(model, name, head.layer)[head.head].to(written)
    return _share_on_diagonal(written @ unembedding_columns(model, ids).to(written).T)


def _share_on_diagonal(scores: Float[Tensor, "token candidate"]) -> float:
    """How often the largest entry of a row is the right one."""
    return float((scores.argmax(dim=1).cpu() == torch.arange(len(scores), device="cpu")).double().mean())
