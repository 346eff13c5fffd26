"""The row of processes: measuring the snapshots of a run with one and with two workers."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.plan import Plan
from benchmarks.shapes import configuration, new_tokens


def cases(plan: Plan) -> list[Case]:
    """The row of the table."""
    return [
        Case(
            name="workers",
            work="the Model Analysis Table of a run with 12 snapshots, 2 layers, on 2 worker processes that are up",
            today="this library in one process",
            open=partial(_open, plan),
            target=1.8,
            n_examples=plan.examples(48),
            rounds=plan.rounds(3),
            tolerance=0.0,
            measures_memory=False,
            n_warm_up=2,
        )
    ]


def _open(plan: Plan) -> Contest:
    folder = TemporaryDirectory(prefix="ih_lens_bench_")
    n_snapshots = 2 if plan.tiny else 12
    cfg = configuration("2 layers", tiny=plan.tiny)
    n_pos = min(cfg.n_ctx, 512)
    config = ih.TrainConfig(n_steps=n_snapshots - 1, batch_size=2, lr=1e-3, snapshots=ih.every(1), n_held_out=0)
    examples = torch.randint(0, cfg.d_vocab, (2 * n_snapshots, n_pos), generator=torch.Generator().manual_seed(0))
    run = ih.train(cfg, examples, config, out=Path(folder.name) / "run", progress=False)
    model = run.snapshots[0].load()

    def measure(evals: ih.EvalSet, workers: int) -> Numbers:
        with TemporaryDirectory(dir=folder.name) as store:
            settings = ih.TableSettings(device=plan.device)
            table = ih.ModelAnalysisTable.from_runs(
                [run], evals=evals, settings=settings, store=store, workers=workers, progress=False
            )
        return _numbers(table)

    return Contest(
        inputs=lambda seed, n: ih.EvalSet.from_tokens(new_tokens(model, n, n_pos, seed), seed=seed),
        ours=timed(partial(measure, workers=2)),
        today=timed(partial(measure, workers=1)),
        close=folder.cleanup,
    )


def _numbers(table: Any) -> Numbers:
    """Every number of the table's one model."""
    (name,) = table.models
    arrays = {str(key): values.to_numpy() for key, values in table.dataset(name).data_vars.items()}
    return {key: torch.from_numpy(array.copy()) for key, array in arrays.items() if array.dtype.kind in "fi"}
