"""Which measurements a table lacks, and taking them: one job per snapshot, in this process, in several or a cluster."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import DamagedFileError, DownloadError, IHLensError, NumericsError
from ih_lens.models.config_json import config_to_json
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.run_protocols import SnapshotLike
from ih_lens.parallel import Task, one_thread_in_numpy, run_tasks, torch_threads
from ih_lens.progress import progress_bar
from ih_lens.report.devices import device_for_job
from ih_lens.report.examples import SharedExamples
from ih_lens.report.form import Form
from ih_lens.report.measuring import MEASUREMENTS
from ih_lens.report.missing import MissingNotes
from ih_lens.report.settings import TableSettings
from ih_lens.report.store import MeasurementStore, entry_key

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One measurement of one snapshot: the key by which its store knows it, its form there, and what takes it."""

    key: str
    form: Form
    measure: Callable[[HookedTransformer, EvalSet, TableSettings], xr.Dataset]
    n_passes: int


@dataclass(frozen=True)
class Job:
    """Measurements of one snapshot, which load its model once."""

    snapshot: SnapshotLike
    entries: tuple[Entry, ...]
    store: MeasurementStore


@dataclass
class Plan:
    """What there is to do.

    Attributes:
        jobs: snapshots with at least one measurement that is not stored.
        n_stored: entries found whole.
        damaged: paths of entries found damaged, which are measured again.
    """

    jobs: list[Job] = field(default_factory=list[Job])
    n_stored: int = 0
    damaged: list[str] = field(default_factory=list[str])

    @property
    def n_entries(self) -> int:
        """Measurements to take."""
        return sum(len(job.entries) for job in self.jobs)


def make_entry(
    snapshot: SnapshotLike,
    measurement: str,
    *,
    evals: EvalSet,
    settings: TableSettings,
    options: Mapping[str, Any] | None = None,
) -> Entry:
    """The entry of a measurement; its key covers weights, architecture, examples, settings, options and version."""
    recipe, cfg, options = MEASUREMENTS[measurement], snapshot.cfg, dict(options or {})
    # equal weights mean another model under another configuration: positions, activation, local windows
    ingredients = {
        "version": recipe.version,
        "weights": snapshot.weights_hash,
        "architecture": config_to_json(cfg),
        "smeared_keys": snapshot.smeared_keys,
        "examples": evals.fingerprint,
        "parameters": {**recipe.parameters(settings), **options},
    }
    key = entry_key(measurement, ingredients)
    n_groups = len(options["heads"]) if "heads" in options else cfg.n_layers * cfg.n_heads
    form = recipe.form(cfg, evals, settings, **options)
    return Entry(key, form, partial(recipe.measure, **options), 1 + n_groups * recipe.sweeps_heads)


def plan(wanted: Iterable[Job]) -> Plan:
    """Leave out what is stored whole; note what is damaged; ask for nothing twice."""
    result, seen = Plan(), set[Path]()
    for job in wanted:
        missing: list[Entry] = []
        for entry in job.entries:
            path = job.store.path(entry.key)
            if path in seen:
                continue
            seen.add(path)
            try:
                stored = job.store.read(entry.key, entry.form) is not None
            except DamagedFileError as damage:
                _log.warning("%s; it is measured again", damage)
                result.damaged.append(str(path))
                stored = False
            result.n_stored += stored
            missing += [] if stored else [entry]
        if missing:
            result.jobs.append(Job(job.snapshot, tuple(missing), job.store))
    return result


def run_job(job: Job, examples: SharedExamples, settings: TableSettings) -> int:
    """Measure what one snapshot lacks and store each result as soon as it is there; returns how many.

    A snapshot whose weights cannot be had, or give NaN or infinity, is noted and left out.
    """
    # a job is run again if its worker died, or was only thought dead
    missing = [entry for entry in job.entries if not job.store.holds(entry.key, entry.form)]
    notes = MissingNotes(job.store.folder)
    try:
        if missing:
            notes.require_connection()
            with torch_threads(settings.threads), one_thread_in_numpy(), device_for_job(settings.device) as device:
                _measure(replace(job, entries=tuple(missing)), examples.get(), replace(settings, device=device))
    except (DownloadError, NumericsError) as error:
        _log.warning("%s is left out: %s", job.snapshot, error)
        notes.add(job.snapshot, error)
        return 0
    except IHLensError as error:
        raise type(error)(f"{job.snapshot}: {error}") from error
    notes.remove(job.snapshot)
    return len(missing)


def _measure(job: Job, evals: EvalSet, settings: TableSettings) -> None:
    model = job.snapshot.load(device=settings.device)
    for entry in job.entries:
        measured = entry.measure(model, evals, settings)
        job.store.write(entry.key, measured.assign_attrs(model=str(job.snapshot)))


def run_jobs(
    jobs: Sequence[Job], evals: EvalSet, settings: TableSettings, *, workers: int | None, progress: bool, what: str
) -> None:
    """Take all measurements of a plan.

    Workers write into the stores themselves: an interruption or a worker that dies loses only the snapshots in
    flight, and those are run again. A joblib backend chosen outside (`joblib.parallel_config`) is used.
    """
    if not jobs:
        return
    examples = {folder: SharedExamples.beside(folder, evals) for folder in {job.store.folder: None for job in jobs}}
    for folder in examples:
        MissingNotes(folder).expect_connection()
    tasks = [Task(str(job.snapshot), partial(run_job, job, examples[job.store.folder], settings)) for job in jobs]
    with progress_bar(what, total=len(tasks), show=progress) as report:
        run_tasks(tasks, folder=jobs[0].store.folder, workers=workers, report=report)
