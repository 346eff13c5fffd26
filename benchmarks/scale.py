"""What ablating every head costs as the work grows: time per ablated head and token, and peak memory."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from transformer_lens import HookedTransformerConfig

import ih_lens as ih
from benchmarks.ablation import INDICES, ablate
from benchmarks.harness import Case, Contest, Outcome, timed
from benchmarks.memory import cost_in_own_process
from benchmarks.plan import Plan
from benchmarks.shapes import build_random, configuration, new_tokens

N_EXAMPLES = (100, 200, 500, 1000, 2000)
EXTENTS: dict[str, tuple[int, ...]] = {
    "n_layers": (1, 2, 4, 8),
    "n_heads": (4, 8, 16, 32),
    "d_vocab": (1024, 4096, 16384, 65536),
    "n_ctx": (128, 256, 512, 1024, 2048),
}
"""What is varied, beside 2 layers, d_model 256, 8 heads, a vocabulary of 4096 and 512 tokens; 8192 tokens each."""


@dataclass(frozen=True)
class Point:
    """One extent and what it cost.

    Attributes:
        varied: what was varied.
        value: to what.
        n_examples: examples in a call.
        seconds: median of the calls.
        seconds_per_head_token: that over ablated heads and tokens.
        extra_bytes: peak memory over that of model and examples; None where it was not measured.
    """

    varied: str
    value: int
    n_examples: int
    seconds: float
    seconds_per_head_token: float
    extra_bytes: int | None


@dataclass(frozen=True)
class _Extent:
    varied: str
    value: int
    n_examples: int

    def cfg(self, plan: Plan) -> HookedTransformerConfig:
        changes = {} if plan.tiny or self.varied == "n_examples" else {self.varied: self.value}
        return configuration("2 layers", tiny=plan.tiny, device=plan.device, **changes)

    def case(self, plan: Plan) -> Case:
        """What there is to measure, by a name that a process of its own finds."""
        return Case(
            name=f"scale-{self.varied}-{self.value}",
            work="",
            today="",
            open=partial(_open, self, plan),
            n_examples=plan.examples(self.n_examples),
            rounds=plan.rounds(3),
        )


def points(plan: Plan) -> list[Case]:
    """Every extent as a case with one side only."""
    return [extent.case(plan) for extent in _extents()]


def measure(plan: Plan) -> list[Point]:
    """Every extent; those with different numbers of examples take turns."""
    extents = _extents()
    by_examples, others = extents[: len(N_EXAMPLES)], extents[len(N_EXAMPLES) :]
    return [*_measure(by_examples, plan), *(point for extent in others for point in _measure([extent], plan))]


def _extents() -> list[_Extent]:
    by_examples = [_Extent("n_examples", n, n) for n in N_EXAMPLES]
    others = [
        _Extent(varied, value, 8192 // value if varied == "n_ctx" else 16)
        for varied, values in EXTENTS.items()
        for value in values
    ]
    return by_examples + others


def _open(extent: _Extent, plan: Plan) -> Contest:
    model = build_random(extent.cfg(plan))
    n_pos = model.cfg.n_ctx
    indices = tuple(index * n_pos // 512 for index in INDICES)
    return Contest(
        inputs=lambda seed, n: ih.EvalSet.from_tokens(new_tokens(model, n, n_pos, seed), seed=seed),
        ours=timed(lambda evals: ablate(model, evals, "pattern_preserving", indices), plan.device),
        today=lambda _: Outcome({}, 0.0),
    )


def _measure(extents: Sequence[_Extent], plan: Plan) -> list[Point]:
    cases = [extent.case(plan) for extent in extents]
    contests = [case.open() for case in cases]
    seconds: list[list[float]] = [[] for _ in cases]
    for seed in range(1 + cases[0].rounds):
        for case, contest, taken in zip(cases, contests, seconds, strict=True):
            inputs = contest.inputs(seed, case.n_examples if seed else 1)  # the first call warms up
            taken.append(contest.ours(inputs).seconds)
    return [_point(extent, case, taken[1:], plan) for extent, case, taken in zip(extents, cases, seconds, strict=True)]


def _point(extent: _Extent, case: Case, taken: list[float], plan: Plan) -> Point:
    cfg, median = extent.cfg(plan), statistics.median(taken)
    extra_bytes = None if plan.quick or plan.tiny else cost_in_own_process(case.name, "ours", plan).extra_bytes
    return Point(
        varied=extent.varied,
        value=extent.value,
        n_examples=case.n_examples,
        seconds=median,
        seconds_per_head_token=median / (cfg.n_layers * cfg.n_heads * case.n_examples * cfg.n_ctx),
        extra_bytes=extra_bytes,
    )
