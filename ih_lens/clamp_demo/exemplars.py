"""The second half of the demonstration: exemplars and labels, with parts of the circuit given from the beginning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ih_lens.clamp_demo.cycle import WINDOW, learning_table
from ih_lens.clamp_demo.sizes import DemoSizes
from ih_lens.experiments.conditions import train_conditions
from ih_lens.experiments.exemplars import exemplar_metrics, exemplar_subcircuits, induction_strength
from ih_lens.experiments.timing import COPY_ALONE, MATCH_ALONE, exemplar_learning_times
from ih_lens.models.runs import Run

ALL_HEADS, ONE_HEAD = "free, all heads", "free, one head"
PREVIOUS, LAYER, COPY = "A: previous token", "layer 1", "C: copy"
MATCH, LAYER_AND_COPY = COPY_ALONE, MATCH_ALONE
LEFT_TO_LEARN = {COPY_ALONE: "copy (C), with B clamped", MATCH_ALONE: "match (B), with layer 1 and C clamped"}
"""Conditions that leave one part of the circuit to be learned, and which."""


@dataclass(frozen=True)
class ExemplarResults:
    """What was found on the exemplar-label task; all losses in nats.

    Attributes:
        threshold: 0.4 log 2, as in Singh et al. 2024.
        plateau: log 2, the loss of guessing one of the two labels.
        losses: of training: columns `condition`, `seed`, `step`, `loss`.
        times: columns `condition`, `seed`, `step`, `tokens_elapsed`, `n_steps` (made at most), `plateau` (steps).
        dissociation: as `exemplar_learning_times` has it; `condition` says which part was not clamped.
        ends: of the freely trained models with all heads: `seed`, `loss` and `accuracy` on new sequences, both for
            pairs of labels that were never trained on too, and the induction strength of each head of the last layer.
    """

    threshold: float
    plateau: float
    losses: pd.DataFrame
    times: pd.DataFrame
    dissociation: pd.DataFrame
    ends: pd.DataFrame


def clamp_exemplars(sizes: DemoSizes, out: Path, *, seeds: Sequence[int], workers: int) -> ExemplarResults:
    """Train under all conditions, and measure; trainings that are there already are not made again."""
    task = sizes.exemplars
    threshold = 0.4 * task.plateau
    cfg = sizes.exemplar_model(task)
    parts = exemplar_subcircuits(task, cfg)
    parts |= {ALL_HEADS: [], ONE_HEAD: parts["free"]}
    kinds = {
        "whole": ((ALL_HEADS, ONE_HEAD, PREVIOUS), sizes.whole_steps),
        # where exemplar_learning_times looks for them too
        f"given/{task.n_labels}_labels_{task.n_classes}_classes": (
            (LAYER, MATCH, COPY, LAYER_AND_COPY),
            sizes.part_steps,
        ),
    }
    trained: dict[str, Mapping[int, Run]] = {}
    tables: list[pd.DataFrame] = []
    times: list[pd.DataFrame] = []
    for folder, (names, n_steps) in kinds.items():
        conditions = {name: parts[name] for name in names}
        config = sizes.exemplar_training(n_steps)
        runs = train_conditions(cfg, task, config, conditions, out=out / folder, seeds=seeds, workers=workers)
        tables.append(runs.loss_table(WINDOW))
        times.append(learning_table(runs, threshold, n_steps))
        trained |= runs.runs
    return ExemplarResults(
        threshold=threshold,
        plateau=task.plateau,
        losses=pd.concat(tables, ignore_index=True),
        times=pd.concat(times, ignore_index=True),
        dissociation=_dissociation(sizes, out / "given", seeds, workers),
        ends=_ends(sizes, trained[ALL_HEADS]),
    )


def _dissociation(sizes: DemoSizes, out: Path, seeds: Sequence[int], workers: int) -> pd.DataFrame:
    """Times to learn one part alone, on tasks with other numbers of labels and classes.

    The threshold stays the same: whatever their number, guessing among the two labels of the context costs log 2.
    """
    times = exemplar_learning_times(
        sizes.exemplar_training(sizes.part_steps),
        out=out,
        task=sizes.exemplars,
        n_labels=sizes.n_labels,
        n_classes=sizes.n_classes,
        conditions=list(LEFT_TO_LEARN),
        seeds=seeds,
        threshold=0.4 * sizes.exemplars.plateau,
        window=WINDOW,
        workers=workers,
        d_model=sizes.d_model,
        n_heads=sizes.n_exemplar_heads,
    )
    return times.assign(condition=[LEFT_TO_LEARN[name] for name in times["condition"]])


def _ends(sizes: DemoSizes, runs: Mapping[int, Run]) -> pd.DataFrame:
    """How well the freely trained models do, and which of their heads attend to the right label."""
    task = sizes.exemplars
    same, new = (task.measuring(split, sizes.n_measured) for split in ("train", "new_label_pairs"))
    rows: list[dict[str, float]] = []
    for seed, run in runs.items():
        model = run.snapshots[-1].load()
        metrics, new_pairs = exemplar_metrics(model, same), exemplar_metrics(model, new)
        strengths = induction_strength(model, same)[-1]
        row = {"seed": seed, "loss": metrics["loss"], "accuracy": metrics["accuracy"]}
        row |= {"new_pairs_loss": new_pairs["loss"], "new_pairs_accuracy": new_pairs["accuracy"]}
        rows.append(row | {f"head {number}": float(value) for number, value in enumerate(strengths)})
    return pd.DataFrame(rows)
