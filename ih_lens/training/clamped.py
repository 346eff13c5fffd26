"""Clamps during training: their schedules step by step, and the optimiser's memory of what they cut off."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ih_lens.clamping.hooks import in_effect
from ih_lens.clamping.parameters import cut_off
from ih_lens.clamping.plan import Plan
from ih_lens.clamping.state import ClampState
from ih_lens.models.hooked_transformer import HookedTransformer


class ClampedSteps:
    """A plan in effect over the steps of one training.

    Args:
        plan: a plan that was checked against the model.
        state: what its hooks see.
    """

    def __init__(self, model: HookedTransformer, plan: Plan, state: ClampState) -> None:
        self._plan, self._state = plan, state
        self._slices = [cut_off(model, entry) if plan.momentum != "keep" else [] for entry in plan]
        self._holding = [False] * len(plan)
        self._kept: list[tuple[nn.Parameter, list[int], Tensor]] = []

    @property
    def waits(self) -> bool:
        """Whether a clamp waits for the loss, which must then be known after every step."""
        return self._state.waits

    @property
    def held(self) -> dict[str, list[bool]]:
        """What must be remembered of the clamps that wait, ready for JSON."""
        return {str(number): list(pair) for number, pair in self._state.held.items()}

    def restore(self, held: Mapping[str, list[bool]], step: int) -> None:
        """Go on after `step` steps as if they had been made here."""
        self._state.held.update({int(number): (pair[0], pair[1]) for number, pair in held.items()})
        self._state.step = max(0, step - 1)
        self._holding = [step > 0 and self._state.share(number) > 0 for number in range(len(self._plan))]

    def begin(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Before a step: what holds now, and the moments of what begins or ceases to be cut off."""
        self._state.step = step
        holding = [self._state.share(number) > 0 for number in range(len(self._plan))]
        for number, (now, before) in enumerate(zip(holding, self._holding, strict=True)):
            if now != before:
                _forget(optimizer, self._slices[number])
        self._holding = holding
        self._kept = [
            (parameter, entries, parameter.detach()[entries].clone())
            for number, slices in enumerate(self._slices)
            for parameter, entries in slices
            if holding[number] and self._plan.momentum == "hold"
        ]

    def end(self, optimizer: torch.optim.Optimizer) -> None:
        """After a step: weights that are to be held come back."""
        with torch.no_grad():
            for parameter, entries, kept in self._kept:
                parameter[entries] = kept
        _forget(optimizer, [(parameter, entries) for parameter, entries, _ in self._kept])

    def note(self, loss: float) -> None:
        """Tell clamps that wait for it the loss of the step."""
        self._state.note(loss=loss)


@contextmanager
def clamped_steps(model: HookedTransformer, plan: Plan) -> Generator[ClampedSteps]:
    """A plan in effect on a model that is trained; nothing at all without clamps."""
    with in_effect(model, plan) as state:
        yield ClampedSteps(model, plan, state)


def _forget(optimizer: torch.optim.Optimizer, slices: list[tuple[nn.Parameter, list[int]]]) -> None:
    """Set the moments of some entries to zero."""
    for parameter, entries in slices:
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in optimizer.state[parameter]:
                optimizer.state[parameter][moment][entries] = 0
