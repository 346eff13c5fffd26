"""The main job on its embedded default: train seven small models on RestartCycle and tabulate them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ih_lens.data.restart_cycle import RestartCycle
from ih_lens.errors import InputError
from ih_lens.models.config import attention_only, with_mlps
from ih_lens.models.series import ModelSpec
from ih_lens.report.findings import findings
from ih_lens.report.table import ModelAnalysisTable
from ih_lens.training.config import TrainConfig
from ih_lens.training.schedule import every
from ih_lens.training.series import train_series

TASK = RestartCycle(n_symbols=20)
"""Few symbols beside the twelve of a sequence, so that knowing its alphabet alone gains little."""


def demo_series() -> dict[str, list[ModelSpec]]:
    """The seven models by series, sized for `TASK`.

    Examples:
        >>> [spec.name for spec in demo_series()["With MLPs"]]
        ['with_mlps_1L', 'with_mlps_2L']
    """
    sizes: dict[str, Any] = {"d_model": 64, "n_heads": 4, "d_vocab": TASK.d_vocab, "n_ctx": TASK.n_pos}
    sizes["initializer_range"] = 0.02  # GPT-2's; see docs/results-restart-cycle.md for what others gave
    plain = {n: attention_only(n, **sizes) for n in (1, 2, 3)}
    return {
        "Attention only": [ModelSpec(f"attention_only_{n}L", cfg) for n, cfg in plain.items()],
        "With MLPs": [ModelSpec(f"with_mlps_{n}L", with_mlps(n, **sizes)) for n in (1, 2)],
        "Smeared keys": [ModelSpec(f"smeared_keys_{n}L", plain[n], smeared_keys=True) for n in (1, 2)],
    }


def demo_training(seed: int) -> TrainConfig:
    """How each of them is trained: 41 snapshots; the seed is that of the weights and of the data."""
    return TrainConfig(
        n_steps=600,
        batch_size=32,
        lr=3e-3,
        snapshots=every(15),
        seed=seed,
        data_seed=seed,
        warmup_steps=50,
        after_warmup="linear",
        weight_decay=0.01,
        betas=(0.9, 0.99),
        precision="float32",
        n_held_out=512,
    )


def run_demo(
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1),
    workers: int = 2,
    training: Callable[[int], TrainConfig] = demo_training,
) -> Iterator[str]:
    """Train, measure and draw, yielding what there is to tell as soon as it is known.

    What was trained or measured before in `out` is not done again.

    Args:
        out: folder for `runs/`, `table.html` and `table.zarr`.
        seeds: every model is trained once per seed.
        workers: processes that train and measure side by side, one thread each.
        training: from a seed to how models are trained.

    Raises:
        InputError: if no seed is given or one twice.
        RunError: if `out` holds runs of another configuration.

    Examples:
        >>> for line in run_demo(Path("ih_lens_demo")):
        ...     print(line)
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: expected different integers, at least one, got {list(seeds)}")
    series = {
        title: [(dataclasses.replace(spec, name=f"{spec.name}_seed{seed}"), seed) for spec in specs for seed in seeds]
        for title, specs in demo_series().items()
    }
    trained = [pair for pairs in series.values() for pair in pairs]
    configs = {spec.name: training(seed) for spec, seed in trained}
    n_steps = training(seeds[0]).n_steps
    n_snapshots = len(training(seeds[0]).snapshots.steps(n_steps))
    yield (
        f"Training {len(trained)} models on RestartCycle ({n_steps} steps, {n_snapshots} snapshots each) with "
        f"{workers} processes. Stopped, the same command continues."
    )
    runs = train_series([spec for spec, _ in trained], TASK, configs, out=out / "runs", workers=workers)
    for run in runs:
        loss = run.losses["loss"].tail(20).mean()
        yield f"  {run.name}: loss {loss:.3f} nats per token at the end (floor {TASK.theoretical_floor:.3f})"
    yield "Measuring every snapshot, with every head ablated."
    columns = {title: [out / "runs" / spec.name for spec, _ in pairs] for title, pairs in series.items()}
    table = ModelAnalysisTable.from_runs(columns, workers=workers)
    page = table.to_html(out / "table.html", title="Model Analysis Table: small models on RestartCycle")
    table.save(out / "table.zarr")
    scoring = table.record["scoring"]
    yield (
        f"In-context learning score: loss at context index {scoring['late']} minus loss at {scoring['early']}, "
        f"of {TASK.n_pos} tokens; negative when the model learns in context."
    )
    yield from findings(table)
    yield f"The table: {page}"
    yield f"Its numbers: {out / 'table.zarr'}"
