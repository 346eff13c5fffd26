"""Two ways to the same numbers, timed side by side on new inputs each time, and held to each other."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Numbers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What one call gave, and the seconds that the whole work takes (or would take, where a part of it was run)."""

    numbers: Numbers
    seconds: float


Side = Callable[[Any], Outcome]


@dataclass(frozen=True)
class Contest:
    """Both sides with their models built.

    Attributes:
        inputs: from a seed and a number of examples to inputs that no call has seen.
        ours: this library.
        today: the code of today.
        as_today: from our numbers to those that the code of today gives, which may be a sample of them.
        relative: whether differences are taken relative to the largest number, where the numbers have no unit.
        close: called at the end.
    """

    inputs: Callable[[int, int], Any]
    ours: Side
    today: Side
    as_today: Callable[[Numbers], Numbers] = field(default=lambda numbers: numbers)
    relative: bool = False
    close: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: unique, for `--only`.
        work: what is computed.
        today: how it is computed today, and on which part of the work where not on all of it.
        open: builds the models; by itself so that the table can be listed, and each case forgotten, cheaply.
        target: the ratio to reach; None where there is none.
        n_examples: examples per call.
        rounds: pairs of calls.
        tolerance: largest difference between both sides' numbers.
        precision: which of the machine's ceilings our side is held against.
        n_warm_up: examples of a call of each side that goes before; 0 where one takes many seconds.
        measures_memory: whether peak memory and floating-point operations are measured too.
        one_by_one: whether today's code takes one example at a time, so that its memory is that of one.
    """

    name: str
    work: str
    today: str
    open: Callable[[], Contest]
    target: float | None = None
    n_examples: int = 1
    rounds: int = 5
    tolerance: float = 1e-4
    precision: str = "float32"
    n_warm_up: int = 1
    measures_memory: bool = True
    one_by_one: bool = False


@dataclass(frozen=True)
class Timing:
    """A case's rounds: seconds of both sides, and the largest difference between their numbers."""

    today_seconds: list[float]
    our_seconds: list[float]
    difference: float

    @property
    def ratios(self) -> list[float]:
        """How many times faster this library was, per round."""
        return [today / ours for today, ours in zip(self.today_seconds, self.our_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the ratios."""
        return statistics.median(self.ratios)


def interleave(contest: Contest, *, n_examples: int, rounds: int, n_warm_up: int = 1) -> Timing:
    """Run both sides on the same new inputs, round after round; who begins changes each time. Closes the contest."""
    try:
        return _interleave(contest, n_examples, rounds, n_warm_up)
    finally:
        contest.close()


def _interleave(contest: Contest, n_examples: int, rounds: int, n_warm_up: int) -> Timing:
    if n_warm_up:
        inputs = contest.inputs(0, n_warm_up)
        contest.today(inputs)
        contest.ours(inputs)
    today_seconds: list[float] = []
    our_seconds: list[float] = []
    difference = 0.0
    for place in range(rounds):
        inputs = contest.inputs(1 + place, n_examples)
        if place % 2 == 0:
            today, ours = contest.today(inputs), contest.ours(inputs)
        else:
            ours, today = contest.ours(inputs), contest.today(inputs)
        today_seconds.append(today.seconds)
        our_seconds.append(ours.seconds)
        found = largest_difference(today.numbers, contest.as_today(ours.numbers), relative=contest.relative)
        difference = max(difference, found)
    return Timing(today_seconds, our_seconds, difference)


def largest_difference(expected: Numbers, found: Numbers, *, relative: bool = False) -> float:
    """Over all numbers, on request relative to the largest of each name.

    Infinite where one side has a name, shape, infinity or NaN that the other has not.
    """
    if expected.keys() != found.keys() or any(expected[name].shape != found[name].shape for name in expected):
        return float("inf")
    differences = [0.0]
    for name, values in expected.items():
        a, b = values.detach().double().cpu(), found[name].detach().double().cpu()
        if not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        both = a.isfinite()
        if bool(both.any()):
            size = float(a[both].abs().max()) if relative else 1.0
            differences.append(float((a[both] - b[both]).abs().max()) / size)
    return max(differences)


def now(device: torch.device | str = "cpu") -> float:
    """Seconds, once everything asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[Any], Numbers], device: torch.device | str = "cpu") -> Side:
    """A side that does all of its work."""

    def side(inputs: Any) -> Outcome:
        start = now(device)
        numbers = work(inputs)
        return Outcome(numbers, now(device) - start)

    return side


def sampled(
    once: Callable[[Any], Any], part: Callable[[Any, Any], Numbers], times: float, device: torch.device | str = "cpu"
) -> Side:
    """A side that does what comes once, and a part of what comes many times.

    Args:
        once: from the inputs to what the part needs.
        part: from the inputs and that to numbers.
        times: how many such parts there are.
        device: whose work is waited for.
    """

    def side(inputs: Any) -> Outcome:
        start = now(device)
        state = once(inputs)
        between = now(device)
        numbers = part(inputs, state)
        return Outcome(numbers, between - start + times * (now(device) - between))

    return side
