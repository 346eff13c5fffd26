"""Runs a model as far as one head or one layer, keeps what its heads read, and checks that this is all they read."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.errors import CapabilityError
from ih_lens.measure.forward import measuring
from ih_lens.measure.head_reading import BIASES, EMBEDDING, POSITIONS, HeadReading, term_names
from ih_lens.measure.numerics import widen
from ih_lens.models.capabilities import require_causal, require_no_post_norms
from ih_lens.models.effective import plain_matrix, precise
from ih_lens.models.hooked_transformer import AbstractAttention, HookedTransformer
from ih_lens.types import HeadIndex, ModelLike
from ih_lens.validate import at_least

_NUMBERS_AT_ONCE = 2**24
_OFF = {torch.float64: 1e-8, torch.float32: 1e-3}
"""By how much, of the largest score, the sum of all terms may miss the model's scores; half precision rounds each."""


def require_linear_reading(model: ModelLike, what: str) -> HookedTransformer:
    """A model whose attention scores are sums of terms, or the reason why they are not.

    Raises:
        CapabilityError: for bridges, norms after attention, clipped or softly capped scores, and attention sinks.
    """
    require_causal(model)
    require_no_post_norms(model, what)
    cfg: Any = model.cfg
    obstacles = {
        "is no HookedTransformer": not isinstance(model, HookedTransformer),
        "clips its queries and keys": getattr(cfg, "clip_qkv", None) is not None,
        "caps its attention scores smoothly": (getattr(cfg, "attn_scores_soft_cap", None) or 0.0) > 0,
        "gives attention to a sink outside the sequence": bool(getattr(cfg, "use_attention_sinks", False)),
    }
    for obstacle, present in obstacles.items():
        if present:
            raise CapabilityError(
                f"{what} splits attention scores into a sum over everything that was written before, but this model "
                f"{obstacle}; use composition_scores, or ablations"
            )
    return cast(HookedTransformer, model)


def head_batches(
    model: ModelLike, head: HeadIndex, tokens: Int[Tensor, "example pos"], batch_size: int | None
) -> Iterator[slice]:
    """Ranges of examples; by default as many as keep the terms of one head within 2^24 numbers."""
    n_examples, n_pos = tokens.shape
    n_terms = len(term_names(model, head.layer))
    per_example = n_pos * max(n_terms * model.cfg.d_head, model.cfg.d_model * 4, n_pos * 4)
    default = max(1, _NUMBERS_AT_ONCE // per_example)
    size = default if batch_size is None else at_least("batch_size", batch_size, 1)
    return (slice(start, min(start + size, n_examples)) for start in range(0, n_examples, size))


def read_head(model: HookedTransformer, head: HeadIndex, tokens: Int[Tensor, "batch pos"]) -> HeadReading:
    """Run the model as far as a head's attention and keep what the head reads; as `read_layer`."""
    return next(_readings(model, head.layer, [head.head], tokens))


def read_layer(model: HookedTransformer, layer: int, tokens: Int[Tensor, "batch pos"]) -> Iterator[HeadReading]:
    """What every head of a layer reads, from one run of the model.

    Raises:
        CapabilityError: if the terms do not add up to a head's attention scores.
    """
    return _readings(model, layer, range(model.cfg.n_heads), tokens)


def _readings(
    model: HookedTransformer, layer: int, heads: Sequence[int], tokens: Int[Tensor, "batch pos"]
) -> Iterator[HeadReading]:
    kept: dict[str, Tensor] = {}
    with measuring(model):
        model.run_with_hooks(
            tokens.to(model.cfg.device),
            return_type=None,
            stop_at_layer=layer + 1,
            fwd_hooks=_keeping(model, layer, kept),
        )
    missing: Tensor | None = None
    for head in heads:
        reading = _assembled(model, HeadIndex(layer, head), kept)
        missing = _missing(reading) if missing is None else missing  # the same for all heads of a layer
        _check(reading, missing)
        yield reading


def _keeping(model: HookedTransformer, up_to: int, kept: dict[str, Tensor]) -> list[Any]:
    """Hooks that keep what a layer reads and its scores; of patterns only the attention to the position before."""

    def keep(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = widen(activation)

    def keep_previous(pattern: Tensor, hook: HookPoint) -> None:
        values = kept.pop(str(hook.name).replace("pattern", "v"))
        values = values.repeat_interleave(pattern.shape[1] // values.shape[2], dim=2)
        share = widen(pattern).diagonal(-1, dim1=2, dim2=3).transpose(1, 2)[..., None]
        kept[str(hook.name)] = torch.cat([torch.zeros_like(values[:, :1]), share * values[:, :-1]], dim=1)

    names = ["hook_embed", "hook_pos_embed", f"blocks.{up_to}.hook_resid_pre", f"blocks.{up_to}.attn.hook_attn_scores"]
    for layer in range(up_to):
        names += [f"blocks.{layer}.attn.hook_v", f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out"]
    hooks: list[Any] = [(name, keep) for name in names if name in model.hook_dict]
    return [*hooks, *((f"blocks.{layer}.attn.hook_pattern", keep_previous) for layer in range(up_to))]


def _assembled(model: HookedTransformer, head: HeadIndex, kept: dict[str, Tensor]) -> HeadReading:
    residual, positions = kept[f"blocks.{head.layer}.hook_resid_pre"], kept.get("hook_pos_embed")
    streams = {EMBEDDING: kept["hook_embed"], BIASES: torch.zeros_like(residual)}
    if positions is not None:
        positions = positions.expand_as(residual)
    behind_norm = model.cfg.positional_embedding_type == "shortformer"
    if positions is not None and not behind_norm:
        streams[POSITIONS] = positions
    for layer in range(head.layer):
        attention: Any = model.blocks[layer].attn
        streams[BIASES] = streams[BIASES] + precise(attention.b_O).to(residual)
        if not model.cfg.attn_only:
            streams[f"MLP{layer}"] = kept[f"blocks.{layer}.hook_mlp_out"]
    n_pos = residual.shape[1]
    bias = residual.new_zeros(n_pos, n_pos)
    if model.cfg.positional_embedding_type == "alibi":
        bias = AbstractAttention.create_alibi_bias(model.cfg.n_heads, n_pos, residual.device)[head.head].to(residual)
    return HeadReading(
        model=model,
        head=head,
        residual=residual,
        streams=streams,
        behind_norm=positions if behind_norm else None,
        z=[kept[f"blocks.{layer}.attn.hook_z"] for layer in range(head.layer)],
        previous=[kept[f"blocks.{layer}.attn.hook_pattern"] for layer in range(head.layer)],
        scores=kept[f"blocks.{head.layer}.attn.hook_attn_scores"][:, head.head],
        bias=bias,
    )


def _missing(reading: HeadReading) -> Float[Tensor, "batch pos d_model"]:
    """What the residual stream holds beside all that is known to have been written: nothing but rounding errors."""
    rest = reading.residual - sum(reading.streams.values())
    for layer, z in enumerate(reading.z):
        rest = rest - z.flatten(2) @ plain_matrix(reading.model, "W_O", layer).flatten(0, 1).to(z)
    return rest


def _check(reading: HeadReading, missing: Float[Tensor, "batch pos d_model"]) -> None:
    """Refuse a model that computes its scores otherwise than from these terms."""
    known = reading.without(missing)
    ours = known.whole("q") @ known.whole("k").mT + reading.bias
    off = (ours - reading.scores).masked_fill(~reading.visible, 0.0).abs().max()
    largest = reading.scores.masked_fill(~reading.visible, 0.0).abs().max().clamp(min=1.0)
    if not bool(off <= _OFF.get(reading.model.cfg.dtype, 0.1) * largest):
        raise CapabilityError(
            f"{reading.head}: the attention scores of this model are not the sum of what its head reads (off by "
            f"{float(off):.2g}): hooks change them, or its attention has a part that is not known here; use "
            "composition_scores, or ablations"
        )
