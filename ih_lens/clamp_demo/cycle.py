"""The first half of the demonstration: RestartCycle, whose phase change clamps bring forward, remove, or prevent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ih_lens.clamp_demo.sizes import DemoSizes
from ih_lens.clamping._base import Clamp
from ih_lens.clamping.clamps.previous_token import PreviousToken
from ih_lens.clamping.schedule import During
from ih_lens.data.eval_set import EvalSet
from ih_lens.experiments.conditions import ConditionRuns, train_conditions
from ih_lens.experiments.plateaus import longest_plateau
from ih_lens.experiments.race import losses_under, mean_loss, race_conditions
from ih_lens.experiments.restart_cycle import restart_cycle_references
from ih_lens.experiments.subcircuits import subcircuits
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.types import HeadIndex

FREE, PREVIOUS, MATCH, FORBIDDEN = "free", "A: previous token", "B: match", "A forbidden"
RELEASED = "A, then released"
WINDOW = 20
"""Steps whose mean loss counts."""


@dataclass(frozen=True)
class CycleResults:
    """What was found on RestartCycle; all losses in nats per token.

    Attributes:
        references: losses of readers who know the alphabet of a sequence, and who also use induction.
        threshold: the loss below which a model counts as having learned: halfway between the two.
        losses: of training: columns `condition`, `seed`, `step`, `loss`.
        times: columns `condition`, `seed`, `step`, `tokens_elapsed`, `n_steps` (made at most), `plateau` (steps).
        ends: of the trained models with and without their clamps: `condition`, `seed`, `clamped`, `released`.
        relearned: per seed the steps from the release of the clamp until the loss was below the threshold for good; NaN
            if it was not at the end.
        race: of models without some heads: `group`, `condition`, `seed`, `loss`.
    """

    references: dict[str, float]
    threshold: float
    losses: pd.DataFrame
    times: pd.DataFrame
    ends: pd.DataFrame
    relearned: list[float]
    race: pd.DataFrame


def clamp_cycle(sizes: DemoSizes, out: Path, *, seeds: Sequence[int], workers: int) -> CycleResults:
    """Train under all conditions, and measure; trainings that are there already are not made again."""
    conditions, alone = _conditions(sizes)
    runs = train_conditions(
        sizes.cycle_model(),
        sizes.cycle,
        sizes.cycle_training(),
        conditions | alone,
        out=out,
        seeds=seeds,
        workers=workers,
    )
    tokens = sizes.cycle.held_out(sizes.n_measured)
    references = restart_cycle_references(sizes.cycle, tokens)
    threshold = sum(references.values()) / len(references)
    evals = EvalSet.from_tokens(tokens)
    losses = runs.loss_table(WINDOW)
    return CycleResults(
        references=references,
        threshold=threshold,
        losses=losses.loc[losses["condition"].isin(list(conditions))],
        times=learning_table(runs, threshold, sizes.cycle_steps),
        ends=_ends(runs, evals, conditions),
        relearned=[_steps_after(runs.losses(RELEASED, seed, WINDOW), threshold, sizes.released_at) for seed in seeds],
        race=_race(runs, evals, alone, sizes.n_heads),
    )


def learning_table(runs: ConditionRuns, threshold: float, n_steps: int) -> pd.DataFrame:
    """When each training learned, and its longest plateau before that."""
    times = runs.learning_times(threshold, window=WINDOW)
    plateaus = [
        longest_plateau(runs.losses(condition, seed, WINDOW), until=threshold)
        for condition, seed in zip(times["condition"], times["seed"], strict=True)
    ]
    return times.assign(n_steps=n_steps, plateau=plateaus)


def _steps_after(losses: pd.Series, threshold: float, start: int) -> float:
    """Steps from `start` until the loss stays below the threshold."""
    above = np.flatnonzero(losses.to_numpy() >= threshold)
    last = int(above[-1]) if len(above) else -1
    return float("nan") if last == len(losses) - 1 else float(max(0, last + 1 - start))


def _conditions(sizes: DemoSizes) -> tuple[dict[str, list[Clamp]], dict[str, list[Clamp]]]:
    """What is clamped, and the conditions in which only one head of the second layer is left."""
    parts = subcircuits(sizes.cycle_model())
    conditions = {name: parts[name] for name in (FREE, PREVIOUS, MATCH, FORBIDDEN)}
    conditions[RELEASED] = [PreviousToken("L0H0", during=During(0, sizes.released_at))]
    alone = race_conditions(_layer(1, sizes.n_heads), "only")
    del alone["all"]  # it is the free training
    return conditions, alone


def _layer(layer: int, n_heads: int) -> list[HeadIndex]:
    return [HeadIndex(layer, head) for head in range(n_heads)]


def _ends(runs: ConditionRuns, evals: EvalSet, conditions: dict[str, list[Clamp]]) -> pd.DataFrame:
    """Every trained model as it was trained, and without any clamp."""
    rows: list[dict[str, str | int | float]] = []
    for condition, clamps in conditions.items():
        for seed, run in runs.runs[condition].items():
            model = run.snapshots[-1].load()
            released = mean_loss(model, evals)
            holding = [] if condition == RELEASED else clamps
            clamped = mean_loss(model, evals, holding) if holding else released
            rows.append({"condition": condition, "seed": seed, "clamped": clamped, "released": released})
    return pd.DataFrame(rows)


def _race(runs: ConditionRuns, evals: EvalSet, alone: dict[str, list[Clamp]], n_heads: int) -> pd.DataFrame:
    """Heads taken out of the freely trained models, and models that were trained with one head of the second layer."""
    parts: list[pd.DataFrame] = []
    for seed, run in runs.runs[FREE].items():
        parts += [part.assign(seed=seed) for part in _without_heads(run.snapshots[-1].load(), evals, n_heads)]
    for condition, clamps in alone.items():
        for seed, run in runs.runs[condition].items():
            loss = mean_loss(run.snapshots[-1].load(), evals, clamps)
            row = {"group": "trained with one of layer 1", "condition": condition, "seed": seed, "loss": loss}
            parts.append(pd.DataFrame([row]))
    return pd.concat(parts, ignore_index=True)


def _without_heads(model: HookedTransformer, evals: EvalSet, n_heads: int) -> Iterator[pd.DataFrame]:
    """One head of the second layer left, one taken out, one more added back at a time; one of the first taken out."""
    first, second = _layer(0, n_heads), _layer(1, n_heads)
    only = losses_under(model, evals, race_conditions(second, "only"))
    yield only.assign(group="one of layer 1 left")
    without = losses_under(model, evals, race_conditions(second, "leave_one_out"))
    yield without[1:].assign(group="one of layer 1 taken out")
    by_strength = [second[place] for place in np.argsort(only["loss"][1:])]
    back = losses_under(model, evals, race_conditions(by_strength, "add_back"))[1:]
    names = [f"{n} strongest" for n in range(1, n_heads)]  # which these are differs between seeds
    yield back.assign(condition=names, group="layer 1 added back")
    below = losses_under(model, evals, race_conditions(first, "leave_one_out"))
    yield below[1:].assign(group="one of layer 0 taken out")
