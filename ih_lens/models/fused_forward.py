"""The forward pass of a `HookedTransformer` without its hooks: the same parameters, fused attention."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.utilities.architectures import POST_NORM_ARCHITECTURES

from ih_lens.errors import CapabilityError
from ih_lens.models.causal_attention import causal_attention
from ih_lens.models.chunked_loss import chunked_loss
from ih_lens.models.hooked_transformer import (
    MLP,
    AbstractAttention,
    Attention,
    GatedMLP,
    GroupedQueryAttention,
    HookedTransformer,
    LayerNorm,
    LayerNormPre,
    RMSNorm,
    RMSNormPre,
    TransformerBlock,
)
from ih_lens.models.linear import linear, linear_gelu
from ih_lens.models.smeared_keys import SmearedKeyAttention, SmearedKeyGroupedQueryAttention, smear_keys

_ATTENTION = (Attention, GroupedQueryAttention, SmearedKeyAttention, SmearedKeyGroupedQueryAttention)
_NORMS = (LayerNorm, LayerNormPre, RMSNorm, RMSNormPre, nn.Identity)
_POSITIONS = ("standard", "shortformer", "rotary", "alibi")
_ROWS_IN_CACHE = 256
"""Positions whose neurons a CPU's caches hold until they are read again."""
_ABSENT = {
    "attention in both directions": lambda cfg: cfg.attention_dir != "causal",
    "soft-capped scores or logits": lambda cfg: cfg.attn_scores_soft_cap > 0 or cfg.output_logits_soft_cap > 0,
    "normalised queries and keys": lambda cfg: cfg.use_qk_norm,
    "clipped queries, keys and values": lambda cfg: cfg.clip_qkv is not None,
    "attention sinks": lambda cfg: cfg.use_attention_sinks,
    "scaling that depends on the context's length": lambda cfg: cfg.use_logn_attn or cfg.use_dynamic_ntk_rope,
    "normalisation after a layer": lambda cfg: (
        cfg.use_normalization_before_and_after or cfg.original_architecture in POST_NORM_ARCHITECTURES
    ),
    "normalised embeddings": lambda cfg: cfg.post_embedding_ln,
    "mixtures of experts": lambda cfg: cfg.num_experts is not None,
    "4-bit weights": lambda cfg: cfg.load_in_4bit,
    "several devices": lambda cfg: cfg.n_devices > 1,
    "weights of less than 32 bits": lambda cfg: cfg.dtype not in (torch.float32, torch.float64),
}
"""What is not covered, each with how to see that a configuration has it."""


def fused_loss(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], predicted: Sequence[int] | None = None
) -> Float[Tensor, ""]:
    """The mean loss of predicting every token but the first, in nats; differentiable once, and no hook runs.

    Agrees with `model(tokens, return_type="loss")` up to rounding. Attention patterns are never formed, nor the logits
    of all positions held, so time and memory grow less with the context.

    Args:
        model: attention-only or with (gated) MLPs; LayerNorm, RMSNorm or none, folded or not; standard,
            shortformer, rotary or ALiBi positions; grouped queries, local attention and smeared keys included. Not
            checked here, at every step: `require_fused_forward` accepted it.
        tokens: ids, on the model's device.
        predicted: context indices of the tokens whose losses count; all by default.

    Examples:
        >>> model = build_model(attention_only(n_layers=2))
        >>> torch.allclose(fused_loss(model, tokens), model(tokens, return_type="loss"), atol=1e-4)
        True
    """
    normalized, targets = final_residual(model, tokens, n_left_out=1), tokens[:, 1:]
    if predicted is not None:
        places = [index - 1 for index in predicted]
        normalized, targets = normalized[:, places], targets[:, places]
    return chunked_loss(normalized.flatten(0, 1), model.unembed.W_U, model.unembed.b_U, targets.flatten())


def final_residual(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], n_left_out: int = 0
) -> Float[Tensor, "batch kept_pos d_model"]:
    """The final residual stream, normalised, without that many last positions: what the unembedding reads."""
    residual = F.embedding(tokens, model.embed.W_E)
    n_pos, kind = tokens.shape[1], model.cfg.positional_embedding_type
    if kind == "standard":
        residual = residual + model.pos_embed.W_pos[:n_pos]
    positions = model.pos_embed.W_pos[:n_pos] if kind == "shortformer" else None
    residual = fused_layers(model, residual, range(model.cfg.n_layers), positions)[:, : n_pos - n_left_out]
    return residual if model.cfg.normalization_type is None else normalize(model.ln_final, residual)


def fused_layers(
    model: HookedTransformer,
    residual: Float[Tensor, "batch pos d_model"],
    layers: range,
    positions: Float[Tensor, "... pos d_model"] | None,
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream after some layers of a model that `require_fused_forward` accepts; no hook runs.

    Args:
        model: the model.
        residual: the residual stream before the first of the layers.
        layers: which ones.
        positions: what shortformer positions add to the inputs of queries and keys, else None.
    """
    for layer in layers:
        residual = fused_block(model.blocks[layer], residual, positions)
    return residual


def may_fuse(model: HookedTransformer) -> bool:
    """Whether the fused layers give what the model itself would: they cover it, and no hook is waiting in it.

    Hook points keep their hooks as those of PyTorch, so the hooks of all modules are looked at, whoever put them there.
    """
    try:
        require_fused_forward(model)
    except CapabilityError:
        return False
    return not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks  # pyright: ignore[reportPrivateUsage]
        for module in model.modules()
    )


def require_fused_forward(model: HookedTransformer) -> None:
    """Refuse a model that the fused forward pass would compute wrongly.

    Raises:
        CapabilityError: naming what it has.
    """
    cfg = model.cfg
    reasons = [what for what, has in _ABSENT.items() if has(cfg)]
    if cfg.positional_embedding_type not in _POSITIONS:
        reasons.append(f"{cfg.positional_embedding_type} positions")
    for block in model.blocks:
        reasons += [f"{type(part).__name__} modules" for part in _unknown_parts(block)]
    if reasons:
        raise CapabilityError(
            f"the fused forward pass does not cover {', '.join(dict.fromkeys(reasons))}; call the model itself"
        )


def _unknown_parts(block: Any) -> list[nn.Module]:
    """Modules of a layer whose arithmetic is not written down here."""
    if type(block) is not TransformerBlock:
        return [block]
    unknown = [] if type(block.attn) in _ATTENTION and block.attn.q_norm is None else [block.attn]
    unknown += [norm for norm in (block.ln1, getattr(block, "ln2", None)) if norm and type(norm) not in _NORMS]
    mlp = getattr(block, "mlp", None)
    if mlp is not None and (type(mlp) not in (MLP, GatedMLP) or mlp.cfg.is_layer_norm_activation()):
        unknown.append(mlp)
    return unknown


def fused_block(
    block: Any,
    residual: Float[Tensor, "batch pos d_model"],
    positions: Float[Tensor, "... pos d_model"] | None,
    *,
    attend: Callable[..., Tensor] | None = None,
    show_mlp: Callable[[Tensor], None] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream after one layer.

    Args:
        block: the layer.
        residual: the residual stream before it.
        positions: are added to the inputs of queries and keys only (shortformer).
        attend: moves values along the pattern in place of fused attention: attention, q, k and v to z.
        show_mlp: gets what the MLP writes.
    """
    attention = block.attn
    q, k, v = queries_keys_values(attention, normalize(block.ln1, residual), positions)
    z = (attend or _attend)(attention, q, k, v)
    after = residual + linear(z.flatten(2), attention.W_O.flatten(0, 1).T, attention.b_O)
    if block.cfg.attn_only:
        return after
    written = mlp_output(block.mlp, normalize(block.ln2, residual if block.cfg.parallel_attn_mlp else after))
    if show_mlp is not None:
        show_mlp(written)
    return after + written


def normalize(norm: Any, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """LayerNorm or RMSNorm as the module has it, or nothing."""
    if isinstance(norm, nn.Identity):
        return x
    weight = getattr(norm, "w", None)
    if isinstance(norm, RMSNorm | RMSNormPre):
        return F.rms_norm(x, x.shape[-1:], weight, norm.eps)
    return F.layer_norm(x, x.shape[-1:], weight, getattr(norm, "b", None), norm.eps)


def queries_keys_values(
    attention: Any, x: Float[Tensor, "batch pos d_model"], positions: Float[Tensor, "... pos d_model"] | None
) -> tuple[
    Float[Tensor, "batch pos head_index d_head"],
    Float[Tensor, "batch pos head_index d_head"],
    Float[Tensor, "batch pos head_index d_head"],
]:
    """What an attention layer makes of its normalised input; keys smeared and rotated, groups repeated."""
    W_K, W_V, b_K, b_V = key_value_parameters(attention)
    if positions is None:
        q, k, v = _project(x, [attention.W_Q, W_K, W_V], [attention.b_Q, b_K, b_V])
        q, k = _place(attention, q, k)
    else:
        q, k = queries_and_keys(attention, x, positions)
        (v,) = _project(x, [W_V], [b_V])
    return q, k, _for_every_head(v, q.shape[2])


def queries_and_keys(
    attention: Any, x: Float[Tensor, "batch pos d_model"], positions: Float[Tensor, "... pos d_model"] | None
) -> tuple[Float[Tensor, "batch pos head_index d_head"], Float[Tensor, "batch pos head_index d_head"]]:
    """Those of `queries_keys_values` alone, where no values are needed."""
    W_K, _, b_K, _ = key_value_parameters(attention)
    q, k = _project(x if positions is None else x + positions, [attention.W_Q, W_K], [attention.b_Q, b_K])
    return _place(attention, q, k)


def _place(
    attention: Any,
    q: Float[Tensor, "batch pos head_index d_head"],
    k: Float[Tensor, "batch pos key_head d_head"],
) -> tuple[Float[Tensor, "batch pos head_index d_head"], Float[Tensor, "batch pos head_index d_head"]]:
    """Smear, rotate, and repeat keys for the heads that share them."""
    if isinstance(attention, SmearedKeyAttention | SmearedKeyGroupedQueryAttention):
        k = smear_keys(k, attention.alpha)
    if attention.cfg.positional_embedding_type == "rotary":
        q, k = attention.apply_rotary(q), attention.apply_rotary(k)
    return q, _for_every_head(k, q.shape[2])


def _for_every_head(
    shared: Float[Tensor, "batch pos some_heads d_head"], n_heads: int
) -> Float[Tensor, "batch pos head_index d_head"]:
    """Repeat what groups of heads share."""
    repeats = n_heads // shared.shape[2]
    return shared if repeats == 1 else shared.repeat_interleave(repeats, dim=2)


def key_value_parameters(attention: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Those that exist: under grouped queries fewer heads than queries have."""
    prefix = "_" if isinstance(attention, GroupedQueryAttention) else ""
    W_K, W_V, b_K, b_V = (attention.get_parameter(prefix + name) for name in ("W_K", "W_V", "b_K", "b_V"))
    return W_K, W_V, b_K, b_V


def _project(
    x: Float[Tensor, "batch pos d_model"], weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Float[Tensor, "batch pos _ d_head"], ...]:
    """Several projections in one product: [head, d_model, d_head] each, as [batch, pos, head, d_head]."""
    matrix = torch.cat([weight.permute(1, 0, 2) for weight in weights], dim=1).flatten(1)  # the only copy
    together = linear(x, matrix.T, torch.cat([*biases]).flatten()).unflatten(-1, (-1, weights[0].shape[2]))
    return together.split([len(weight) for weight in weights], dim=2)


def _attend(
    attention: AbstractAttention,
    q: Float[Tensor, "batch pos head_index d_head"],
    k: Float[Tensor, "batch pos head_index d_head"],
    v: Float[Tensor, "batch pos head_index d_head"],
) -> Float[Tensor, "batch pos head_index d_head"]:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return causal_attention(q, k, v, **score_terms(attention)).transpose(1, 2)


def score_terms(attention: Any) -> dict[str, Any]:
    """What a pattern follows from beside queries and keys, as the arguments of `causal_attention`."""
    window = attention.cfg.window_size if attention.attn_type == "local" else None
    slopes = None
    if attention.cfg.positional_embedding_type == "alibi":
        slopes = AbstractAttention.create_alibi_multipliers(attention.cfg.n_heads, attention.W_Q.device)
    return {
        "scale": 1 / float(attention.attn_scale),
        "window": None if window is None else int(window),
        "slopes": None if slopes is None else slopes.to(attention.W_Q.dtype),
    }


def mlp_output(mlp: Any, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """What a (gated) MLP writes, from its normalised input."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return _mlp(mlp, x)
    pieces = x.flatten(0, 1).split(_ROWS_IN_CACHE)
    return torch.cat([_mlp(mlp, piece) for piece in pieces]).view_as(x)


def _mlp(mlp: Any, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    if isinstance(mlp, GatedMLP):
        neurons = activate(mlp, F.linear(x, mlp.W_gate.T)) * F.linear(x, mlp.W_in.T) + mlp.b_in
    elif mlp.cfg.act_fn == "gelu_new":
        neurons = linear_gelu(x, mlp.W_in.T, mlp.b_in)
    else:
        neurons = activate(mlp, F.linear(x, mlp.W_in.T, mlp.b_in))
    return linear(neurons, mlp.W_out.T, mlp.b_out)


def activate(mlp: Any, x: Float[Tensor, "*batch d_mlp"]) -> Float[Tensor, "*batch d_mlp"]:
    """The activation function; "gelu_new" is PyTorch's tanh approximation, which is one operation there."""
    if mlp.cfg.act_fn == "gelu_new":
        return F.gelu(x, approximate="tanh")
    return mlp.act_fn(x)
