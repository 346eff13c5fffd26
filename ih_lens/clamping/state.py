"""What clamps see of the forward pass in which they act: its tokens, the training step, activations of other passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.clamping.schedule import During, Schedule, When
from ih_lens.errors import InputError
from ih_lens.models.hooked_transformer import LoadedModel


@dataclass(frozen=True)
class Reference:
    """Another pass on the same tokens, whose activations clamps put in.

    Attributes:
        model: what runs; None for the clamped model itself without its clamps.
        name: activation to keep, as TransformerLens names its hook.
        with_gradient: whether gradients flow through that pass.
    """

    model: LoadedModel | None
    name: str
    with_gradient: bool = False


@dataclass
class ClampState:
    """The moving part of a plan in effect: training sets `step` and calls `note`, the forward pass does the rest.

    Attributes:
        model: the clamped model.
        schedules: of every clamp of the plan.
        step: of the training, which schedules follow.
        tokens: ids of the forward pass that is running, or ran last.
        held: of clamps that wait for a metric, by number, whether they hold and whether they were let go for good.
        observed: activations of that pass which clamps asked for, by hook.
    """

    model: LoadedModel
    schedules: Sequence[Schedule] = ()
    step: int = 0
    tokens: Int[Tensor, "batch pos"] | None = None
    held: dict[int, tuple[bool, bool]] = field(default_factory=dict[int, tuple[bool, bool]])
    observed: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    suspended: bool = False
    _found: dict[tuple[int, str], Tensor] = field(default_factory=dict[tuple[int, str], Tensor])

    @property
    def waits(self) -> bool:
        """Whether a clamp waits for a metric."""
        return any(isinstance(schedule, When) for schedule in self.schedules)

    def note(self, **metrics: float) -> None:
        """Tell the schedules that wait for a metric its value after a step.

        Raises:
            InputError: if one waits for a metric that is not given.

        Examples:
            >>> state.note(loss=2.31)
        """
        for number, schedule in enumerate(self.schedules):
            if isinstance(schedule, When):
                self.held[number] = schedule.holds(metrics, *self.held.get(number, (False, False)))

    def share(self, number: int) -> float:
        """How much of its strength a clamp has now."""
        schedule = self.schedules[number]
        return schedule.weight(self.step) if isinstance(schedule, During) else float(self.held.get(number, (False,))[0])

    def begin(self, tokens: Int[Tensor, "batch pos"], references: Callable[[], list[Reference]]) -> None:
        """Note the tokens of a forward pass and run the other passes that its clamps ask for."""
        if self.suspended:
            return
        self.tokens = tokens
        self._found.clear()
        self.observed.clear()
        by_pass: dict[tuple[int, bool], list[Reference]] = {}
        for reference in references():
            by_pass.setdefault((id(reference.model), reference.with_gradient), []).append(reference)
        for same_pass in by_pass.values():
            self._run(same_pass, tokens)

    def tokens_of(self, n_rows: int, n_pos: int) -> Int[Tensor, "row pos"]:
        """The tokens of each row of an activation; a measurement may run all examples in several copies.

        Raises:
            InputError: if the rows are not the examples, once or several times, or not of the same length.
        """
        if self.tokens is None or n_rows % len(self.tokens) or n_pos != self.tokens.shape[1]:
            seen = "none" if self.tokens is None else " x ".join(map(str, self.tokens.shape))
            raise InputError(
                f"a clamp that depends on tokens met an activation of {n_rows} rows of {n_pos} positions after a "
                f"forward pass on {seen} tokens; run the model from its tokens, without a key-value cache"
            )
        return self.tokens.repeat(n_rows // len(self.tokens), 1)

    def seen(self, name: str, n_rows: int) -> Tensor:
        """An activation of this pass, gradients and all, one row for each row of a later one."""
        found = self.observed[name]
        return found if len(found) == n_rows else _repeated(found, n_rows)

    def activation(self, reference: Reference, n_rows: int) -> Tensor:
        """An activation of another pass on the same tokens, one row for each row of this one."""
        return _repeated(self._found[id(reference.model), reference.name], n_rows)

    def _run(self, references: list[Reference], tokens: Int[Tensor, "batch pos"]) -> None:
        model, with_gradient = references[0].model or self.model, references[0].with_gradient

        def keep(key: tuple[int, str]) -> Callable[..., None]:
            def hook(value: Tensor, hook: HookPoint) -> None:  # noqa: ARG001 TransformerLens names it
                self._found[key] = value if with_gradient else value.detach()

            return hook

        hooks: list[Any] = [(entry.name, keep((id(entry.model), entry.name))) for entry in references]
        was_suspended, self.suspended = self.suspended, True
        try:
            with torch.set_grad_enabled(with_gradient and torch.is_grad_enabled()), model.hooks(fwd_hooks=hooks):
                model(tokens.to(model.cfg.device or tokens.device), return_type=None)
        finally:
            self.suspended = was_suspended


def _repeated(value: Tensor, n_rows: int) -> Tensor:
    """All rows once more per copy, one copy after the other."""
    return value.repeat(n_rows // len(value), *([1] * (value.ndim - 1)))
