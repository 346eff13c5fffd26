"""Effective weights: one set of matrices for one model, however it was loaded.

Weight-based measures use matrices with the gain and the centring of LayerNorm folded into whatever reads the
residual stream. LayerNorm's scale depends on the input and is not applied, and biases do not enter.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.models.capabilities import require_no_post_norms
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
    centred = str(model.cfg.normalization_type).startswith("LN")
    final_centred = centred and not getattr(model.cfg, "final_rms", False)
    layers = [_layer_weights(block, model.cfg, centred) for block in parts.blocks]
    queries, keys, values, outputs, value_bias = (
        torch.stack([layer[i].to(layers[0][i].device) for layer in layers]) for i in range(5)
    )
    embedding = _embedding(parts.embed, model.cfg)
    if final_centred:
        embedding, outputs = _centre(embedding, -1), _centre(outputs, -1)
    unembedding = _fold(_precise(parts.unembed.W_U), getattr(parts, "ln_final", None), model.cfg, final_centred)
    return EffectiveWeights(embedding, queries, keys, values, outputs, _centre(unembedding, -1), value_bias)


def _layer_weights(block: Any, cfg: Any, centred: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and output matrices and the value bias of all heads of one layer."""
    attention = block.attn
    queries, keys, values = (
        _all_heads(_precise(matrix), cfg.n_heads) for matrix in (attention.W_Q, attention.W_K, attention.W_V)
    )
    value_bias = torch.zeros_like(values[:, 0])
    if attention.b_V is not None:
        value_bias = value_bias + _all_heads(_precise(attention.b_V), cfg.n_heads)
    norm_bias = getattr(block.ln1, "b", None)
    if norm_bias is not None:
        value_bias = value_bias + torch.einsum("m,hmd->hd", _precise(norm_bias), values)
    queries, keys, values = (_fold(matrix, block.ln1, cfg, centred) for matrix in (queries, keys, values))
    queries = queries * _head_gain(getattr(attention, "q_norm", None), cfg)
    keys = keys * _head_gain(getattr(attention, "k_norm", None), cfg)
    return queries, keys, values, _precise(attention.W_O), value_bias


def _embedding(embed: Any, cfg: Any) -> Float[Tensor, "d_vocab d_model"]:
    """The embedding, with gain and centring of a LayerNorm right after it (as in BLOOM)."""
    embedding = _precise(embed.W_E)
    if getattr(cfg, "post_embedding_ln", False):
        embedding = _centre(embedding, -1) * _precise(embed.ln.w)
    return embedding


def _fold(
    matrix: Float[Tensor, "*head d_model out"], norm: Any, cfg: Any, centred: bool
) -> Float[Tensor, "*head d_model out"]:
    """A matrix that reads the residual stream through a norm, with the norm's gain and centring."""
    gain = _gain(norm, cfg)
    if gain is not None:
        matrix = matrix * gain[:, None]
    return _centre(matrix, -2) if centred else matrix


def _gain(norm: Any, cfg: Any) -> Float[Tensor, "width"] | None:
    """A norm's gain; None where it has none or it was folded already."""
    gain = getattr(norm, "w", None)
    if gain is None:
        return None
    return _precise(gain) + (1.0 if getattr(cfg, "rmsnorm_uses_offset", False) else 0.0)


def _head_gain(norm: Any, cfg: Any) -> Tensor | float:
    """The gain of a norm of queries or keys, shared by all heads or one for each."""
    gain = _gain(norm, cfg)
    return 1.0 if gain is None else _all_heads(gain.reshape(-1, cfg.d_head), cfg.n_heads)[:, None]


def _all_heads(values: Float[Tensor, "some_heads *rest"], n_heads: int) -> Float[Tensor, "head_index *rest"]:
    """Repeat what groups of heads share, so that every head has its own."""
    return values.repeat_interleave(n_heads // values.shape[0], dim=0)


def _centre(matrix: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    return matrix - matrix.mean(dim, keepdim=True)


def _precise(values: Tensor) -> Tensor:
    """Detached, and in float32 where the model has less."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))
