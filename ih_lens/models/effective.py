"""Effective weights: one set of matrices for one model, however it was loaded.

Weight-based measures use matrices with the gain and the centring of LayerNorm folded into whatever reads the
residual stream. LayerNorm's scale depends on the input and is not applied, and biases do not enter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.capabilities import require_no_post_norms
from ih_lens.models.wrapped_model import embedding_norm, embedding_scale
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class EffectiveWeights:
    """A model's matrices with everything linear folded in; detached, in at least float32.

    Attributes:
        W_E: embedding [d_vocab, d_model].
        W_Q: queries [layer, head, d_model, d_head].
        W_K: keys, repeated for the heads that share them.
        W_V: values, repeated for the heads that share them.
        W_O: outputs [layer, head, d_head, d_model].
        W_U: unembedding [d_model, d_vocab_out], centred over the vocabulary.
        value_bias: the part of each value vector that does not depend on the input [layer, head, d_head].
    """

    W_E: Float[Tensor, "d_vocab d_model"]
    W_Q: Float[Tensor, "layer head_index d_model d_head"]
    W_K: Float[Tensor, "layer head_index d_model d_head"]
    W_V: Float[Tensor, "layer head_index d_model d_head"]
    W_O: Float[Tensor, "layer head_index d_head d_model"]
    W_U: Float[Tensor, "d_model d_vocab_out"]
    value_bias: Float[Tensor, "layer head_index d_head"]


@torch.no_grad()
def effective_weights(model: ModelLike) -> EffectiveWeights:
    """Fold the norms' gains and centring into the matrices that read the residual stream.

    LayerNorm multiplies by a gain and removes the mean, RMSNorm multiplies only. Where every reader removes the
    mean, it is also removed from what is written (W_E, W_O): it has no effect. So the weights are the same to
    rounding for a model loaded plain, with `fold_ln`, `center_writing_weights`, `center_unembed` or
    `fold_value_biases`; only `value_bias` moves with the last of these, together with the values themselves.

    Args:
        model: a `HookedTransformer`, or a bridge with the same weights.

    Returns:
        The weights, on the model's device.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream.

    Examples:
        >>> effective_weights(load_model("gpt2")).W_Q.shape
        torch.Size([12, 12, 768, 64])
    """
    require_no_post_norms(model, "measuring with effective weights")
    parts: Any = model
    return EffectiveWeights(
        W_E=fold_embedding(model, precise(parts.embed.W_E)),
        W_Q=_stacked(model, partial(layer_matrix, model, "W_Q")),
        W_K=_stacked(model, partial(layer_matrix, model, "W_K")),
        W_V=_stacked(model, partial(layer_matrix, model, "W_V")),
        W_O=_stacked(model, partial(layer_matrix, model, "W_O")),
        W_U=_centre(fold_unembedding(model, precise(parts.unembed.W_U)), -1),
        value_bias=_stacked(model, partial(value_bias, model)),
    )


@torch.no_grad()
def layer_matrix(
    model: ModelLike, name: Literal["W_Q", "W_K", "W_V", "W_O"], layer: int
) -> Float[Tensor, "head_index width_in width_out"]:
    """One of `EffectiveWeights` for one layer, so that not all of them need exist at once."""
    parts, cfg = cast(Any, model), model.cfg
    block = parts.blocks[layer]
    if name == "W_O":
        matrix = plain_matrix(model, name, layer)
        return _centre(matrix, -1) if _final_centred(cfg) else matrix
    return _fold(reading_matrix(model, name, layer), block.ln1, cfg, _centred(cfg))


@torch.no_grad()
def plain_matrix(
    model: ModelLike, name: Literal["W_Q", "W_K", "W_V", "W_O"], layer: int
) -> Float[Tensor, "head_index width_in width_out"]:
    """One layer's matrix for every head with nothing folded in."""
    return _all_heads(precise(getattr(cast(Any, model).blocks[layer].attn, name)), model.cfg.n_heads)


@torch.no_grad()
def reading_matrix(
    model: ModelLike, name: Literal["W_Q", "W_K", "W_V"], layer: int
) -> Float[Tensor, "head_index d_model d_head"]:
    """One layer's matrix for products with what `fold_reading` gave: only norms of queries or keys are in it."""
    matrix = plain_matrix(model, name, layer)
    norm = getattr(cast(Any, model).blocks[layer].attn, {"W_Q": "q_norm", "W_K": "k_norm"}.get(name, ""), None)
    gain = norm_gain(norm, model.cfg)
    if gain is None:
        return matrix
    return matrix * _all_heads(gain.reshape(-1, model.cfg.d_head), model.cfg.n_heads)[:, None]


def fold_reading(model: ModelLike, rows: Float[Tensor, "n d_model"], layer: int) -> Float[Tensor, "n d_model"]:
    """Rows of the effective embedding, or sums of them, as the plain matrices of one layer's attention read them."""
    cfg: Any = model.cfg
    gain = norm_gain(cast(Any, model).blocks[layer].ln1, cfg)
    if _centred(cfg) and not _final_centred(cfg):  # else the embedding's own folding has removed the mean
        rows = _centre(rows, -1)
    return rows if gain is None else rows * gain.to(rows)


@torch.no_grad()
def value_bias(model: ModelLike, layer: int) -> Float[Tensor, "head_index d_head"]:
    """The part of one layer's value vectors that does not depend on the input."""
    parts, cfg = cast(Any, model), model.cfg
    block = parts.blocks[layer]
    matrix, bias = precise(block.attn.W_V), block.attn.b_V
    norm_bias = getattr(block.ln1, "b", None)
    constant = matrix.new_zeros(matrix.shape[0], matrix.shape[-1])
    if norm_bias is not None:
        constant = constant + precise(norm_bias) @ matrix
    constant = _all_heads(constant, cfg.n_heads)
    return constant if bias is None else constant + _all_heads(precise(bias), cfg.n_heads)


@torch.no_grad()
def unembedding_columns(model: ModelLike, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
    """The columns of the effective unembedding that belong to some tokens, without making the others."""
    W_U = cast(Any, model).unembed.W_U.detach()
    dtype = torch.promote_types(W_U.dtype, torch.float32)
    columns = W_U.T[tokens.to(W_U.device)].to(dtype) - W_U.mean(dim=1, dtype=dtype)
    return fold_unembedding(model, columns[..., None])[..., 0]


def fold_embedding(model: ModelLike, rows: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Rows of the embedding, or sums of them, as effective ones."""
    scale, norm = embedding_scale(model), embedding_norm(model)
    if scale != 1:
        rows = rows * scale
    if norm is not None:
        rows = _centre(rows, -1) * precise(norm.w)
    return _centre(rows, -1) if _final_centred(model.cfg) else rows


def fold_unembedding(model: ModelLike, columns: Float[Tensor, "*batch d_model n"]) -> Float[Tensor, "*batch d_model n"]:
    """Columns of the unembedding, or sums of them, as effective ones but for their centring over the vocabulary."""
    return _fold(columns, getattr(model, "ln_final", None), model.cfg, _final_centred(model.cfg))


def precise(values: Tensor) -> Tensor:
    """Detached, and in float32 where the model has less."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))


def _stacked(model: ModelLike, of_layer: Callable[[int], Tensor]) -> Float[Tensor, "layer *rest"]:
    """One tensor per layer, on the first one's device."""
    first = of_layer(0)
    return torch.stack([first, *(of_layer(layer).to(first.device) for layer in range(1, model.cfg.n_layers))])


def _centred(cfg: Any) -> bool:
    """Whether what reads the residual stream inside layers removes its mean."""
    return str(cfg.normalization_type).startswith("LN")


def _final_centred(cfg: Any) -> bool:
    """Whether every reader removes the mean, the unembedding included."""
    return _centred(cfg) and not getattr(cfg, "final_rms", False)


def _fold(
    matrix: Float[Tensor, "*head d_model out"], norm: Any, cfg: Any, centred: bool
) -> Float[Tensor, "*head d_model out"]:
    """A matrix that reads the residual stream through a norm, with the norm's gain and centring."""
    gain = norm_gain(norm, cfg)
    if gain is not None:
        matrix = matrix * gain[:, None]
    return _centre(matrix, -2) if centred else matrix


def norm_gain(norm: Any, cfg: Any) -> Float[Tensor, "width"] | None:
    """A norm's gain; None where it has none or it was folded already."""
    gain = getattr(norm, "w", None)
    if gain is None:
        return None
    return precise(gain) + (1.0 if getattr(cfg, "rmsnorm_uses_offset", False) else 0.0)


def _all_heads(values: Float[Tensor, "some_heads *rest"], n_heads: int) -> Float[Tensor, "head_index *rest"]:
    """Repeat what groups of heads share, so that every head has its own."""
    repeats = n_heads // values.shape[0]
    return values if repeats == 1 else values.repeat_interleave(repeats, dim=0)


def _centre(matrix: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    return matrix - matrix.mean(dim, keepdim=True)
