"""Clamping a model: the context in which a plan holds, and the proof beforehand that each part of it matters."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.clamping._base import Place
from ih_lens.clamping.generation import generating_from_tokens
from ih_lens.clamping.hooks import in_effect
from ih_lens.clamping.plan import Clamps, Plan, covers
from ih_lens.clamping.state import ClampState
from ih_lens.errors import CapabilityError, InputError
from ih_lens.models.capabilities import discarded_edits_unannounced
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.types import Hook

_PROBE_LENGTH = 9
_PROBE_EXAMPLES = 4


@contextmanager
def clamp(model: LoadedModel, clamps: Clamps, *, step: int = 0) -> Generator["ClampState"]:
    """Hold parts of a model at chosen values while the context lasts, whatever is done with it.

    Training steps, measurements and generation inside see the clamped model; afterwards, and after an exception, it is
    as before. What `torch.compile` made of it runs uncompiled meanwhile, because it may not see new hooks. (Singh et
    al. 2024: clamping in the manner of optogenetics.)

    Args:
        model: a HookedTransformer, or a bridge whose hooks take effect.
        clamps: a clamp, several, or a plan.
        step: of the training, for schedules; `state.step` may be set inside.

    Yields:
        The state that the clamps see; an own training loop sets its `step`, and tells it what schedules wait for by
        `state.note(loss=...)`.

    Raises:
        InputError: if the clamps do not fit the model or one undoes another.
        CapabilityError: if a clamp has no place in the model, or nothing that it holds has any effect.

    Examples:
        >>> with clamp(model, [PreviousToken("L0H3"), ZeroHead("L1H2")]):
        ...     losses = token_losses(model, evals)
    """
    if not isinstance(model, LoadedModel):
        raise InputError(
            f"model: expected a HookedTransformer or a TransformerBridge, got {type(model).__name__}; clamp the model "
            "itself, before torch.compile or anything else wraps it"
        )
    plan = Plan(clamps)
    plan.check(model.cfg)
    require_effect(model, plan)
    uncompiled = torch.compiler.set_stance("force_eager")
    with uncompiled, generating_from_tokens(model), in_effect(model, plan) as state:
        state.step = step
        yield state


def require_effect(model: LoadedModel, plan: Plan) -> None:
    """Refuse clamps of something that changes nothing in this model: each place is disturbed, and logits must move.

    Raises:
        CapabilityError: naming the clamp and the place.
    """
    if not len(plan):
        return
    cfg: Any = model.cfg
    generator = torch.Generator().manual_seed(0)
    n_pos = min(_PROBE_LENGTH, cfg.n_ctx)
    tokens = torch.randint(0, cfg.d_vocab, (_PROBE_EXAMPLES, n_pos), generator=generator, device="cpu").to(cfg.device)
    for number, entry in enumerate(plan):
        beside = Plan([other for other in plan if other is entry or covers(other, entry)])
        undisturbed = _logits(model, beside, tokens, [])
        for place in entry.places(cfg):
            fired: list[bool] = []
            moved = not torch.equal(_logits(model, beside, tokens, [_disturbance(place, fired)]), undisturbed)
            if not fired or not moved:
                why = "changes no logit" if fired else "is never computed"
                raise CapabilityError(
                    f"clamp {number + 1}, {entry}: what it holds at {place.hook} {why} in this model, given the "
                    "other clamps; leave it out, or clamp another head or layer"
                )


@torch.no_grad()
def _logits(
    model: LoadedModel, plan: Plan, tokens: Int[Tensor, "batch pos"], probe: list[Hook]
) -> Float[Tensor, "batch pos d_vocab"]:
    with discarded_edits_unannounced(), in_effect(model, plan, probe=probe):
        return model(tokens)


def _disturbance(place: Place, fired: list[bool]) -> Hook:
    """A hook that changes what is clamped a little, and notes that it was called; attention stays attention."""

    def hook(value: Tensor, hook: HookPoint) -> Tensor:  # noqa: ARG001 TransformerLens names it
        fired.append(True)
        part = place.select(value)
        noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(1), device="cpu").to(part)
        changed = part + (noise.abs().tril() if place.hook.endswith("hook_pattern") else noise)
        return place.put(value, changed)

    return place.hook, hook
