"""Models whose weights were written by hand, so that every score is known before it is measured."""

from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.components.abstract_attention import AbstractAttention

import ih_lens as ih

SHARPNESS = 200.0
"""Attention score of a match; all other positions share less than exp(-190) of the attention."""

PREVIOUS_TOKEN, TWO_BEFORE, START_TOKEN, DUPLICATE_TOKEN = range(4)
"""Heads of layer 0 of `induction_model`, by what they attend to: the position before, the one before that, position
0, all positions with the same token. The first two write the token they find where only later keys read it; the
others write nothing."""

INDUCTION, ANTI_COPYING, OFFSET_INDUCTION, UNIFORM = range(4)
"""Heads of layer 1: induction heads that copy and anti-copy, one that attends one position after the induction
target, and one that attends to everything alike; the last two copy."""


def induction_model(*, d_vocab: int = 24, n_ctx: int = 64) -> HookedTransformer:
    """Two attention-only layers without LayerNorm, in float64: previous-token heads below, induction heads above.

    The residual stream has four parts: the token, its position, the token before it, the token two before it.
    """
    token, position = slice(0, d_vocab), slice(d_vocab, d_vocab + n_ctx)
    before, two_before = (slice(n_ctx + k * d_vocab, n_ctx + (k + 1) * d_vocab) for k in (1, 2))
    model = blank_model(d_vocab=d_vocab, n_ctx=n_ctx, n_layers=2, d_model=n_ctx + 3 * d_vocab)
    model.embed.W_E.data[:, token] = identity(d_vocab)
    model.pos_embed.W_pos.data[:, position] = identity(n_ctx)
    model.unembed.W_U.data[token] = identity(d_vocab)
    lower, upper = (block.attn for block in model.blocks)

    for head, back, written in ((PREVIOUS_TOKEN, 1, before), (TWO_BEFORE, 2, two_before)):
        lower.W_Q.data[head, position, :n_ctx] = SHARPNESS * identity(n_ctx).roll(-back, dims=1)
        lower.W_Q.data[head, position][:back] = 0.0
        lower.W_K.data[head, position, :n_ctx] = identity(n_ctx)
        _move(lower, head, token, written, d_vocab)
    _avoid(lower, START_TOKEN, position, 1, strength=-SHARPNESS)
    _match(lower, DUPLICATE_TOKEN, token, token, d_vocab)

    for head, compared, n_unknown in (
        (INDUCTION, before, 1),
        (ANTI_COPYING, before, 1),
        (OFFSET_INDUCTION, two_before, 2),
    ):
        _match(upper, head, token, compared, d_vocab)
        _avoid(upper, head, position, n_unknown, strength=2 * SHARPNESS)
    for head in (INDUCTION, ANTI_COPYING, OFFSET_INDUCTION, UNIFORM):
        _move(upper, head, token, token, d_vocab, sign=-1.0 if head == ANTI_COPYING else 1.0)
    return model


def smeared_induction_model(*, d_vocab: int = 24, n_ctx: int = 64) -> HookedTransformer:
    """One layer with smeared keys whose head 0 is an induction head: each key is the one of the token before.

    The first key is its own token's, as always, so examples need a start token.
    """
    model = blank_model(d_vocab=d_vocab, n_ctx=n_ctx, n_layers=1, d_model=d_vocab, smeared=True)
    whole = slice(0, d_vocab)
    model.embed.W_E.data[:] = identity(d_vocab)
    model.unembed.W_U.data[:] = identity(d_vocab)
    attention = model.blocks[0].attn
    attention.alpha.data[0] = -50.0
    _match(attention, 0, whole, whole, d_vocab)
    _move(attention, 0, whole, whole, d_vocab)
    return model


def blank_model(*, smeared: bool = False, **sizes: Any) -> HookedTransformer:
    """A model of zeros in float64, without MLPs and norms; unless told otherwise with four heads per layer.

    Heads have one dimension to spare.
    """
    chosen: dict[str, Any] = {"n_heads": 4, "d_head": max(sizes["d_vocab"], sizes["n_ctx"]) + 1, **sizes}
    cfg = HookedTransformerConfig(
        **chosen, attn_only=True, normalization_type=None, use_attn_scale=False, dtype=torch.float64, device="cpu"
    )
    model = ih.build_model(cfg, smeared_keys=smeared)
    for parameter in model.parameters():
        parameter.data.zero_()
    return model


def identity(size: int) -> torch.Tensor:
    """In float64."""
    return torch.eye(size, dtype=torch.float64)


def _match(attention: AbstractAttention, head: int, query: slice, key: slice, d_vocab: int) -> None:
    """Attend to where `key` of the residual stream holds the token that `query` holds."""
    attention.W_Q.data[head, query, :d_vocab] = SHARPNESS * identity(d_vocab)
    attention.W_K.data[head, key, :d_vocab] = identity(d_vocab)


def _avoid(attention: AbstractAttention, head: int, position: slice, n_first: int, *, strength: float) -> None:
    """Do not attend to the first positions, whatever they hold (attend only to them, if strength is negative)."""
    attention.b_Q.data[head, -1] = 1.0
    attention.W_K.data[head, position, -1][:n_first] = -strength


def _move(
    attention: AbstractAttention, head: int, read: slice, written: slice, d_vocab: int, sign: float = 1.0
) -> None:
    """Copy one part of what is attended to into another part of the residual stream."""
    attention.W_V.data[head, read, :d_vocab] = identity(d_vocab)
    attention.W_O.data[head, :d_vocab, written] = sign * identity(d_vocab)


POINTER = 0
"""Head of layer 1 of `pointer_model`: an induction head by pointer arithmetic."""


def pointer_model(*, d_vocab: int = 24, n_ctx: int = 64) -> HookedTransformer:
    """Two attention-only layers whose induction head uses positions: Q-composition, no previous-token head.

    The duplicate-token head of layer 0 (`DUPLICATE_TOKEN`) attends to all positions with its token, itself included,
    and writes where they are. Head `POINTER` of layer 1 looks one position after each of these, with keys that hold
    positions only, and copies. Head `TWO_BEFORE` writes the token two before, which nothing reads.
    """
    token, position = slice(0, d_vocab), slice(d_vocab, d_vocab + n_ctx)
    found = slice(d_vocab + n_ctx, d_vocab + 2 * n_ctx)
    two_before = slice(d_vocab + 2 * n_ctx, 2 * d_vocab + 2 * n_ctx)
    model = blank_model(d_vocab=d_vocab, n_ctx=n_ctx, n_layers=2, d_model=2 * d_vocab + 2 * n_ctx)
    model.embed.W_E.data[:, token] = identity(d_vocab)
    model.pos_embed.W_pos.data[:, position] = identity(n_ctx)
    model.unembed.W_U.data[token] = identity(d_vocab)
    lower, upper = (block.attn for block in model.blocks)
    _match(lower, DUPLICATE_TOKEN, token, token, d_vocab)
    lower.W_V.data[DUPLICATE_TOKEN, position, :n_ctx] = identity(n_ctx)
    lower.W_O.data[DUPLICATE_TOKEN, :n_ctx, found] = identity(n_ctx)
    lower.W_Q.data[TWO_BEFORE, position, :n_ctx] = SHARPNESS * identity(n_ctx).roll(-2, dims=1)
    lower.W_K.data[TWO_BEFORE, position, :n_ctx] = identity(n_ctx)
    _move(lower, TWO_BEFORE, token, two_before, d_vocab)
    upper.W_Q.data[POINTER, found, :n_ctx] = SHARPNESS * identity(n_ctx).roll(1, dims=1)
    upper.W_K.data[POINTER, position, :n_ctx] = identity(n_ctx)
    _move(upper, POINTER, token, token, d_vocab)
    return model
