"""Which weights a clamp cuts off from learning: the part of each matrix that belongs to the clamped heads."""

from typing import Any

from torch import Tensor, nn

from ih_lens.clamping._base import Clamp, Place
from ih_lens.clamping.plan import Plan
from ih_lens.models.hooked_transformer import HookedTransformer

_CUT_OFF = {
    "hook_pattern": ("W_Q", "b_Q", "W_K", "b_K"),
    "hook_q": ("W_Q", "b_Q"),
    "hook_k": ("W_K", "b_K"),
    "hook_v": ("W_V", "b_V"),
    "hook_z": ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O"),
}


def cut_off(model: HookedTransformer, entry: Clamp) -> list[tuple[nn.Parameter, list[int]]]:
    """Parameters that learn nothing while a clamp holds, and of each the entries along its first axis.

    Those are of heads (or of groups that share keys and values), or all that is below a held residual stream. Clamps of
    other whole activations cut off no weights, and neither do those that leave some of the learning.
    """
    if not entry.cuts_off():
        return []
    found: list[tuple[nn.Parameter, list[int]]] = []
    for place in entry.places(model.cfg):
        hook = place.hook.rsplit(".", 1)[-1]
        if hook in ("hook_resid_pre", "hook_resid_post"):
            n_below = (place.layer or 0) + (hook == "hook_resid_post")
            with_embeddings = "hook_embed" not in entry.observed(model.cfg)
            below = _below(model, n_below, with_embeddings)
            found += [(parameter, list(range(len(parameter)))) for parameter in below]
        for name in _CUT_OFF.get(hook, ()) if place.axis is not None else ():
            parameter = _parameter(model, place, name)
            heads = [] if parameter is None else _entries(parameter, place, model.cfg)
            if parameter is not None and heads:
                found.append((parameter, heads))
    return found


def _below(model: HookedTransformer, n_layers: int, with_embeddings: bool) -> list[nn.Parameter]:
    """Everything that only makes the residual stream after some layers; shortformer's positions act in all layers."""
    parts: list[nn.Module] = [*model.blocks[:n_layers]]
    if with_embeddings:
        parts.append(model.embed)
        parts += [model.pos_embed] if model.cfg.positional_embedding_type == "standard" else []
    return [parameter for part in parts for parameter in part.parameters()]


def may_leave_unused(plan: Plan, cfg: Any) -> bool:
    """Whether the loss may not depend on some parameters at all; behind held values they have gradients of zero."""
    return any(entry.gradient == "stop" and place.axis is None for entry in plan for place in entry.places(cfg))


def _parameter(model: HookedTransformer, place: Place, name: str) -> nn.Parameter | None:
    """The parameter as the layer keeps it: with groups that share keys and values, under a name of its own."""
    kept = dict(model.blocks[place.layer or 0].attn.named_parameters(recurse=False))
    return kept.get(f"_{name}", kept.get(name))


def _entries(parameter: Tensor, place: Place, cfg: Any) -> list[int]:
    """The clamped heads of a parameter that has one entry per head, or the groups of which all heads are clamped."""
    if place.hook.endswith(("hook_k", "hook_v")) or len(parameter) == cfg.n_heads:
        return list(place.heads)
    size = cfg.n_heads // len(parameter)
    groups = {head // size for head in place.heads}
    return [group for group in sorted(groups) if set(range(group * size, (group + 1) * size)) <= set(place.heads)]
