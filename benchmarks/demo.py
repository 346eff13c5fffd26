"""`make demo` after installation, and the same work with the code of today, of which a part is run."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks import today_evaluators
from benchmarks.ablation import ablate
from benchmarks.harness import largest_difference
from benchmarks.plan import Plan
from benchmarks.today_ablation import TodayAblation, spread_heads
from ih_lens.demo import TASK, demo_series, demo_training

SEEDS = (0, 1)
BATCH_SIZE = 64
"""Examples of 48 tokens that the code of today takes at a time; fewer and more are slower."""


@dataclass(frozen=True)
class Demo:
    """Seconds of the whole demo both ways.

    Attributes:
        seconds: the whole command in two processes: training, measuring, drawing.
        today_training_seconds: training all models in one process, extrapolated.
        today_measuring_seconds: measuring all snapshots in one process, extrapolated.
        sampled: which part was really run.
        difference: largest difference between both sides' losses after ablations, where both were run.
    """

    seconds: float
    today_training_seconds: float
    today_measuring_seconds: float
    sampled: str
    difference: float

    @property
    def ratio(self) -> float:
        """Against the code of today split perfectly over two processes."""
        return (self.today_training_seconds + self.today_measuring_seconds) / 2 / self.seconds


def measure(plan: Plan) -> Demo:
    """The whole demo in a folder that is deleted afterwards, then a part of it by the code of today."""
    with TemporaryDirectory(prefix="ih_lens_bench_") as name:
        seconds = _run(Path(name))
        specs = [spec for specs in demo_series().values() for spec in specs]
        runs = [ih.open_run(Path(name) / "runs" / f"{spec.name}_seed0") for spec in specs]
        return today(specs, runs, demo_training(0), seconds, n_sampled_steps=10 if plan.quick else 30)


def today(
    specs: Sequence[ih.ModelSpec], runs: Sequence[ih.Run], config: ih.TrainConfig, seconds: float, n_sampled_steps: int
) -> Demo:
    """The same work by the code of today: some steps of each model's training, and the last of its snapshots."""
    trainings, measurings, difference = 0.0, 0.0, 0.0
    for spec, run in zip(specs, runs, strict=True):
        trainings += _train(spec, config, n_sampled_steps) * config.n_steps / n_sampled_steps
        evals = ih.EvalSet.from_tokens(_held_out(run))
        taken, found = _measure(run.snapshots[-1].load(), evals)
        measurings += taken * len(run.snapshots)
        difference = max(difference, found)
    return Demo(
        seconds=seconds,
        today_training_seconds=len(SEEDS) * trainings,
        today_measuring_seconds=len(SEEDS) * measurings,
        sampled=f"{n_sampled_steps} of {config.n_steps} steps and 1 of {len(runs[0].snapshots)} snapshots of one seed "
        "of each model",
        difference=difference,
    )


def _run(folder: Path) -> float:
    """Seconds of the command, in an environment without the benchmarks' own settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    command = [sys.executable, "-c", "from ih_lens.cli import main; main()", "demo", "--out", str(folder)]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - start


def _train(spec: ih.ModelSpec, config: ih.TrainConfig, n_steps: int) -> float:
    """Seconds of some steps after a first one that warms up."""
    model = ih.build_model(spec.cfg, smeared_keys=spec.smeared_keys)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    start = 0.0
    for step in range(n_steps + 1):
        start = time.perf_counter() if step == 1 else start
        first = step * config.batch_size
        loss = model(TASK.examples(first, first + config.batch_size, data_seed=0), return_type="loss")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - start


def _held_out(run: ih.Run) -> torch.Tensor:
    tokens = run.held_out
    if tokens is None:
        raise RuntimeError(f"{run.path} keeps no examples to measure on")
    return tokens


def _measure(model: HookedTransformer, evals: ih.EvalSet) -> tuple[float, float]:
    """Seconds of all measurements of one snapshot, and how far ablations differ from this library's."""
    indices = ih.TableSettings().resolved(evals.n_pos).context_indices
    heads = spread_heads(model.cfg.n_layers, model.cfg.n_heads, None)
    start = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, evals.n_examples, BATCH_SIZE):
            model(evals.tokens[first : first + BATCH_SIZE], return_type="loss", loss_per_token=True)
    _score(model, evals, heads)
    ablated = TodayAblation(model, heads, 1, True, indices, batch_size=BATCH_SIZE)(evals).numbers
    seconds = time.perf_counter() - start
    ours = ablate(model, evals, "pattern_preserving", indices)["losses"].flatten(0, 1)
    return seconds, largest_difference(ablated, {"losses": ours})


def _score(model: HookedTransformer, evals: ih.EvalSet, heads: Sequence[tuple[int, int]]) -> None:
    """All head scores; their numbers are held to this library's in the rows of head scores."""
    length, repeats = model.cfg.n_ctx // 4, 4
    repeated = ih.repeated_random_tokens(model, length=length, repeats=repeats)
    random = ih.random_tokens(model, length=length)
    scores = today_evaluators.stripes(
        today_evaluators.cache_of(model, repeated, "hook_pattern"), model.cfg.n_layers, length, repeats
    )
    today_evaluators.cache_of(model, evals.tokens[:10], "hook_pattern")
    today_evaluators.copying(model, random, today_evaluators.cache_of(model, random, "hook_v", "hook_pattern"), heads)
    today_evaluators.ov_eigenvalues(model, heads)
    if later := [head for head in heads if head[0] > 0]:
        written = today_evaluators.written_before(model, scores["previous_token"])
        today_evaluators.qk_trace_per_head(model, written, later)
