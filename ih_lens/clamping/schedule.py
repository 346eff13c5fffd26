"""When a clamp holds: between two steps, slowly in and out, or from the moment that a metric crosses a threshold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ih_lens.errors import InputError
from ih_lens.validate import at_least, number, one_of


@dataclass(frozen=True)
class During:
    """Hold from one step until before another, faded in and out over some steps.

    Attributes:
        start: the first step with the clamp; step s is the update from the model after s steps.
        stop: the first step without it again; None for never.
        ramp: over so many steps the strength rises from 0 at `start`, and falls to 0 at `stop`.

    Examples:
        >>> [During(2, 4).weight(step) for step in range(5)]
        [0.0, 0.0, 1.0, 1.0, 0.0]
    """

    kind: ClassVar[str] = "during"
    start: int = 0
    stop: int | None = None
    ramp: int = 0

    def __post_init__(self) -> None:
        at_least("start", self.start, 0)
        at_least("ramp", self.ramp, 0)
        if self.stop is not None and at_least("stop", self.stop, 0) <= self.start:
            raise InputError(f"stop: expected a step after start={self.start}, got {self.stop}; exchange them")

    def weight(self, step: int) -> float:
        """The share of the clamp's strength at a step, from 0 to 1."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return 0.0
        if not self.ramp:
            return 1.0
        to_stop = float("inf") if self.stop is None else self.stop - step
        return min(1.0, (step - self.start) / self.ramp, to_stop / self.ramp)

    def overlaps(self, other: "Schedule") -> bool:
        """Whether both may hold at the same step."""
        if isinstance(other, When):
            return True
        first, second = sorted((self, other), key=lambda window: window.start)
        return first.stop is None or first.stop > second.start


@dataclass(frozen=True)
class When:
    """Hold from the step after a metric first crosses a threshold, until the end or until a second crossing.

    Attributes:
        metric: its name among the metrics of a training, such as "loss".
        comparison: "below" or "above".
        threshold: in the metric's unit.
        release: threshold at which the clamp is let go for good, crossed in the same direction; None for never.

    Examples:
        >>> When("loss", "below", 3.0)
        When(metric='loss', comparison='below', threshold=3.0, release=None)
    """

    kind: ClassVar[str] = "when"
    metric: str
    comparison: str
    threshold: float
    release: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise InputError(f"metric: expected its name, such as 'loss', got {self.metric!r}")
        one_of("comparison", self.comparison, ["below", "above"])
        number("threshold", self.threshold)
        if self.release is not None and not self._crossed(number("release", self.release), self.threshold):
            raise InputError(
                f"release: {self.release} lies on the near side of threshold={self.threshold}, so the clamp would be "
                f"let go before it holds; a metric that goes {self.comparison} crosses the threshold first"
            )

    def _crossed(self, value: float, threshold: float) -> bool:
        return value < threshold if self.comparison == "below" else value > threshold

    def holds(self, metrics: Mapping[str, float], held: bool, released: bool) -> tuple[bool, bool]:
        """Whether the clamp holds from now on, and whether it was let go for good.

        Raises:
            InputError: if there is no such metric.
        """
        if self.metric not in metrics:
            raise InputError(f"no metric {self.metric!r} to wait for; there are {', '.join(metrics) or 'none'}")
        value = metrics[self.metric]
        released = released or (self.release is not None and held and self._crossed(value, self.release))
        return not released and (held or self._crossed(value, self.threshold)), released

    def overlaps(self, other: "Schedule") -> bool:  # noqa: ARG002 when it holds is not known beforehand
        """Whether both may hold at the same step."""
        return True


Schedule = During | When
ALWAYS = During()
SCHEDULES: dict[str, type[During] | type[When]] = {During.kind: During, When.kind: When}


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule as JSON takes it."""
    return {"kind": schedule.kind, **asdict(schedule)}


def schedule_from_json(record: Any) -> Schedule:
    """The inverse of `schedule_to_json`.

    Raises:
        InputError: if it is no schedule.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"schedule: expected what schedule_to_json writes, got {record!r}")
    values = dict(record)
    kind = one_of("schedule", str(values.pop("kind", None)), list(SCHEDULES))
    try:
        return SCHEDULES[kind](**values)
    except TypeError as error:
        raise InputError(f"schedule {kind}: {error}") from error
