"""Training several models on one corpus, side by side in processes of one thread each."""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ih_lens.clamping.plan import Clamps, Plan
from ih_lens.data.corpus import Corpus
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.models.runs import LOSSES_FILE, Run, open_run
from ih_lens.models.series import ModelSpec
from ih_lens.parallel import Task, run_tasks, torch_threads
from ih_lens.progress import watched_console
from ih_lens.reading import parse_json
from ih_lens.training.config import TrainConfig
from ih_lens.training.trainer import train
from ih_lens.validate import at_least

_POLL_SECONDS = 0.5
_TAIL_BYTES = 400  # more than one line of the loss file


def train_series(
    specs: Sequence[ModelSpec],
    corpus: Tensor | Corpus,
    config: TrainConfig | Mapping[str, TrainConfig],
    *,
    out: str | Path,
    clamps: Mapping[str, Clamps] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[Run]:
    """Train every model of a series, each into the folder `out`/name; all see the same examples in the same order.

    What was trained before is not trained again, and what was interrupted, a worker that died included, is continued.

    Args:
        specs: the models.
        corpus: what all of them are trained on.
        config: one configuration, or one per name of a model.
        out: folder of the runs.
        clamps: per name of a model what is clamped while it trains; models that are not named train freely.
        workers: models that are trained at the same time; by default what `joblib.parallel_config` says, for a
            cluster, and otherwise one after the other.
        progress: show how far each model is, if this is a terminal or a notebook.

    Returns:
        The runs in the order of `specs`.

    Raises:
        InputError: if two models share a name, one has no configuration, or clamps are given for none of them.
        WorkerError: if worker processes keep dying.

    Examples:
        >>> config = TrainConfig(n_steps=1000, batch_size=32, lr=1e-3)
        >>> train_series(smeared_key_models("tiny"), RestartCycle(), config, out="runs", workers=2)
    """
    if workers is not None:
        at_least("workers", workers, 1)
    names = [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise InputError(f"specs: expected at least one model and different names, got {', '.join(names) or 'none'}")
    configs = dict.fromkeys(names, config) if isinstance(config, TrainConfig) else config
    missing = set(names) - set(configs)
    if missing:
        raise InputError(f"config: no training configuration for {', '.join(sorted(missing))}")
    plans = {name: Plan(chosen) for name, chosen in (clamps or {}).items()}
    if unknown := set(plans) - set(names):
        raise InputError(f"clamps: no model is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    folders = {name: Path(out) / name for name in names}
    tasks = [
        # workers may be in another folder
        Task(
            spec.name,
            partial(
                _train_one, spec, corpus, configs[spec.name], folders[spec.name].resolve(), plans.get(spec.name, Plan())
            ),
        )
        for spec in specs
    ]
    with _progress({folders[name]: configs[name].n_steps for name in names}, shown=progress):
        run_tasks(tasks, folder=Path(out).resolve(), workers=workers)
    return [open_run(folder) for folder in folders.values()]


def _train_one(spec: ModelSpec, corpus: Tensor | Corpus, config: TrainConfig, folder: Path, plan: Plan) -> None:
    with torch_threads(1):  # two processes of one thread are faster than one of two, and a run records its threads
        train(spec.cfg, corpus, config, out=folder, smeared_keys=spec.smeared_keys, clamps=plan, progress=False)


@contextmanager
def _progress(n_steps: Mapping[Path, int], *, shown: bool) -> Generator[None]:
    """One bar per run, fed from the loss files, because the trainings may be in other processes."""
    console = watched_console(shown)
    if console is None:
        yield
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps  loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bars:
        tasks = {folder: bars.add_task(folder.name, total=total, loss="-") for folder, total in n_steps.items()}
        finished = threading.Event()

        def watch() -> None:
            while not finished.wait(_POLL_SECONDS):
                for folder, task in tasks.items():
                    done, loss = last_loss(folder)
                    bars.update(task, completed=done, loss=loss)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()


def last_loss(folder: Path) -> tuple[int, str]:
    """Steps done and the latest loss as text, of a run that may be in the middle of writing; (0, "-") before it."""
    try:
        with (folder / LOSSES_FILE).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            complete = file.read().rpartition(b"\n")[0]
        record = parse_json(complete.rpartition(b"\n")[2], folder / LOSSES_FILE)
        return int(record["step"]) + 1, f"{record['loss']:.3f}"
    except (OSError, DamagedFileError, ValueError, KeyError, TypeError):
        return 0, "-"
