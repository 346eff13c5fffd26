"""A plan as hooks, in effect while a context lasts."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ih_lens.clamping._base import Clamp, Place
from ih_lens.clamping.plan import Clamps, Plan
from ih_lens.clamping.state import ClampState, Reference
from ih_lens.errors import CapabilityError, InputError
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.types import Hook


@contextmanager
def in_effect(model: LoadedModel, plan: Plan, *, probe: Sequence[Hook] | None = None) -> Generator[ClampState]:
    """The hooks of a plan that was checked; with a probe all clamps hold in full, and its hooks come right after."""
    state = ClampState(model, [entry.during for entry in plan])
    weights = _scheduled(plan, state) if probe is None else _in_full
    with ExitStack() as stack:
        if len(plan):
            stack.enter_context(_split_inputs(model, plan))
            stack.enter_context(_seeing_tokens(model, plan, state, weights))
            stack.enter_context(model.hooks(fwd_hooks=[*_hooks(model, plan, state, weights, probe or ())]))
        yield state


def clamp_hooks(model: LoadedModel, clamps: Clamps, tokens: Tensor) -> list[Hook]:
    """The same clamps as plain TransformerLens hooks, for one batch of tokens and clamps that need no other pass.

    Raises:
        InputError: if a clamp needs more than the tokens: another model's pass, or inputs split by path.

    Examples:
        >>> model.run_with_hooks(tokens, fwd_hooks=clamp_hooks(model, PreviousToken("L0H3"), tokens))
    """
    plan = Plan(clamps)
    plan.check(model.cfg)
    for entry in plan:
        if entry.references(model.cfg) or entry.split_inputs:
            raise InputError(f"{entry} needs more than hooks on one pass; use `with clamp(model, ...)`")
    state = ClampState(model, [entry.during for entry in plan])
    state.begin(tokens, list)
    return _hooks(model, plan, state, _scheduled(plan, state), ())


def _scheduled(plan: Plan, state: ClampState) -> Callable[[int], float]:
    """The present strength of each clamp, by number."""
    return lambda number: plan.clamps[number].strength * state.share(number)


def _in_full(number: int) -> float:  # noqa: ARG001 all clamps alike
    return 1.0


def _hooks(
    model: LoadedModel, plan: Plan, state: ClampState, weights: Callable[[int], float], between: Sequence[Hook]
) -> list[Hook]:
    """The hooks in the plan's order, and last those that note what clamps later in the pass need."""
    cfg: Any = model.cfg
    acting = [
        (place.hook, _acting(entry, place, state, number, weights))
        for number, entry in enumerate(plan)
        for place in entry.places(cfg)
    ]
    noted = dict.fromkeys(name for entry in plan for name in entry.observed(cfg))
    for name in (*(name for name, _ in acting), *noted):
        if name not in model.hook_dict:
            raise CapabilityError(f"clamps: this model has no {name}, which one of them acts on or needs: {plan}")
    return [*acting, *between, *((name, _noting(name, state)) for name in noted)]


def _acting(
    entry: Clamp, place: Place, state: ClampState, number: int, weights: Callable[[int], float]
) -> Callable[..., Tensor | None]:
    def hook(value: Tensor, hook: HookPoint) -> Tensor | None:  # noqa: ARG001 TransformerLens names it
        strength = 0.0 if state.suspended else weights(number)
        if strength == 0:
            return None
        if place.hook.endswith("hook_pattern") and value.shape[-1] != value.shape[-2]:
            raise InputError(
                f"{entry} met a pattern of {value.shape[-2]} queries and {value.shape[-1]} keys; run the model from "
                "all tokens, without a key-value cache"
            )
        return place.put(value, entry.hold(place.select(value), place, state, strength))

    return hook


def _noting(name: str, state: ClampState) -> Callable[..., None]:
    def hook(value: Float[Tensor, "..."], hook: HookPoint) -> None:  # noqa: ARG001 TransformerLens names it
        if not state.suspended:
            state.observed[name] = value

    return hook


@contextmanager
def _seeing_tokens(
    model: LoadedModel, plan: Plan, state: ClampState, weights: Callable[[int], float]
) -> Generator[None]:
    """Tell the state about the tokens of every forward pass; it then runs the passes that clamps now in effect need."""

    def references() -> list[Reference]:
        return [
            reference
            for number, entry in enumerate(plan)
            if weights(number) > 0
            for reference in entry.references(model.cfg)
        ]

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:  # noqa: ARG001 PyTorch passes both
        state.begin(arguments[0], references)

    handle = model.embed.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _split_inputs(model: LoadedModel, plan: Plan) -> Generator[None]:
    """Inputs of queries, keys and values apart from each other, where a clamp needs it."""
    before: bool = model.cfg.use_split_qkv_input
    if not any(entry.split_inputs for entry in plan):
        yield
        return
    model.set_use_split_qkv_input(True)
    try:
        yield
    finally:
        model.set_use_split_qkv_input(before)
