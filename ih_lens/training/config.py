"""Everything that decides how a model is trained, beside the model and the data."""

import dataclasses
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ih_lens.errors import InputError
from ih_lens.training.schedule import SnapshotSchedule, every
from ih_lens.validate import at_least, device_of, one_of, seed_of

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
AfterWarmup: TypeAlias = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser, schedules, snapshots and seeds of one training.

    Args:
        n_steps: optimiser steps.
        batch_size: examples per step, over all devices together.
        lr: learning rate after warm-up.
        snapshots: when to keep the model: `every(n)`, `powers_of_two(first, last)` or `at_steps([...])`; step 0 and
            the last step are always kept.
        seed: of the weights.
        data_seed: of the examples' order. Models with one data seed see the same examples in the same order.
        warmup_steps: steps over which the learning rate rises linearly from lr / warmup_steps.
        after_warmup: "constant"; or "linear" or "cosine" decay that ends at `final_lr_fraction` of lr.
        final_lr_fraction: share of lr at the last step, used by "linear" and "cosine".
        weight_decay: of AdamW; applied to matrices, not to biases, gains, positions and alphas.
        weight_decay_changes: (step, value) pairs: from that step on it is that value. The paper lowers it once.
        betas: of AdamW.
        grad_clip: largest norm of the gradient; None leaves it as it is.
        precision: "bfloat16" computes matrix products in it (autocast) and keeps weights in float32; "auto" does so
            where the processor or GPU multiplies bfloat16 natively and the model is wide enough to gain.
        n_held_out: examples of the corpus to keep in the run folder that are never trained on; None keeps what the
            corpus sets aside (of a tensor, what the steps do not need), at most 1000.
        state_every: save what resuming needs every so many steps too, not only with snapshots (of those that follow
            each other within a few seconds, not with each).
        repeat_examples: begin anew where the corpus ends, instead of refusing.
        device: where to train; None takes the model configuration's.

    Raises:
        InputError: for values that make no sense, naming the field.

    Examples:
        >>> TrainConfig(n_steps=1000, batch_size=32, lr=1e-3, snapshots=every(25))
    """

    n_steps: int
    batch_size: int
    lr: float
    snapshots: SnapshotSchedule = dataclasses.field(default_factory=lambda: every(50))
    seed: int = 0
    data_seed: int = 0
    warmup_steps: int = 100
    after_warmup: AfterWarmup = "constant"
    final_lr_fraction: float = 0.1
    weight_decay: float = 0.05
    weight_decay_changes: tuple[tuple[int, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float | None = 1.0
    precision: Precision = "auto"
    n_held_out: int | None = None
    state_every: int | None = None
    repeat_examples: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name, minimum in (("n_steps", 1), ("batch_size", 1), ("warmup_steps", 0)):
            at_least(name, getattr(self, name), minimum)
        for name, minimum in (("n_held_out", 0), ("state_every", 1)):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), minimum)
        seed_of("seed", self.seed)
        seed_of("data_seed", self.data_seed)
        one_of("precision", self.precision, ("auto", "float32", "bfloat16"))
        one_of("after_warmup", self.after_warmup, ("constant", "linear", "cosine"))
        self._check_numbers()
        if not isinstance(self.snapshots, SnapshotSchedule):
            raise InputError(
                f"snapshots: expected every(n), powers_of_two(first, last) or at_steps([...]), got {self.snapshots!r}"
            )

    def _check_numbers(self) -> None:
        numbers: list[tuple[str, float, float, str]] = [
            ("lr", math.ulp(0.0), sys.float_info.max, "a positive number"),
            ("weight_decay", 0, sys.float_info.max, "a number of at least 0"),
            ("final_lr_fraction", 0, 1, "a share from 0 to 1"),
        ]
        if self.grad_clip is not None:
            numbers.append(("grad_clip", math.ulp(0.0), math.inf, "a positive number or None"))
        for name, low, high, expected in numbers:
            _require(name, getattr(self, name), expected, lambda value, low=low, high=high: low <= value <= high)
        _require("betas", self.betas, "two numbers from 0 to below 1", _are_betas)
        _require(
            "weight_decay_changes", self.weight_decay_changes, "(step, value) pairs, rising steps from 1", _are_changes
        )
        if self.device is not None:
            device_of("device", self.device)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the update number `step`, counted from 0.

        Examples:
            >>> TrainConfig(n_steps=10, batch_size=1, lr=1.0, warmup_steps=4).learning_rate(1)
            0.5
        """
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.after_warmup == "constant":
            return self.lr
        progress = (step - self.warmup_steps) / max(1, self.n_steps - 1 - self.warmup_steps)
        remaining = 1 - progress if self.after_warmup == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.lr * (self.final_lr_fraction + (1 - self.final_lr_fraction) * remaining)

    def weight_decay_at(self, step: int) -> float:
        """The weight decay of the update number `step`, counted from 0."""
        passed = [value for change, value in self.weight_decay_changes if change <= step]
        return passed[-1] if passed else self.weight_decay

    def to_json(self) -> dict[str, Any]:
        """Every field as numbers, texts and lists."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changes = [list(change) for change in self.weight_decay_changes]
        return {
            **fields,
            "snapshots": self.snapshots.to_json(),
            "betas": list(self.betas),
            "weight_decay_changes": changes,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "TrainConfig":
        """What `to_json` wrote.

        Raises:
            InputError: if a field is unknown, missing or makes no sense.
        """
        try:
            values: dict[str, Any] = {
                **record,
                "snapshots": SnapshotSchedule.from_json(record["snapshots"]),
                "betas": tuple(record["betas"]),
                "weight_decay_changes": tuple((step, value) for step, value in record["weight_decay_changes"]),
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"this is no training configuration ({error!r}); give what to_json wrote") from error


def _require(name: str, value: Any, expected: str, sound: Callable[[Any], object]) -> None:
    """Raise unless `sound(value)` is true; values that it cannot even judge are not sound."""
    try:
        accepted = bool(sound(value))
    except (TypeError, ValueError, RuntimeError):
        accepted = False
    if not accepted:
        raise InputError(f"{name}: expected {expected}, got {value!r}")


def _are_betas(betas: Any) -> bool:
    first, second = betas
    return 0 <= first < 1 and 0 <= second < 1


def _are_changes(changes: Any) -> bool:
    steps = [step for step, _ in changes]
    rising = steps == sorted(set(steps)) and all(isinstance(step, int) and step >= 1 for step in steps)
    return rising and all(0 <= value < math.inf for _, value in changes)
