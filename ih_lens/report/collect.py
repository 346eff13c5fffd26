"""From columns to the numbers of a table: plan, measure what is missing, analyse."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import DownloadError, InputError
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.report.columns import Column
from ih_lens.report.jobs import Entry, Job, make_entry, plan, run_jobs
from ih_lens.report.joint_ablation import groups_to_ablate, induction_heads, joint_ablation
from ih_lens.report.measured import MeasuredModel
from ih_lens.report.measuring import MEASUREMENTS
from ih_lens.report.missing import MissingNotes
from ih_lens.report.model_data import model_dataset
from ih_lens.report.rows import NotMeasured, Row
from ih_lens.report.settings import TableSettings
from ih_lens.results import AblationLosses

_log = logging.getLogger(__name__)
_ALWAYS = ("losses", "head_scores")
"""What the phase change and the types of heads come from, whichever rows there are."""
_NO_ABLATION = NotMeasured("because heads were not ablated (settings.ablate is False)")


@dataclass
class Collector:
    """Takes the measurements of one table.

    Attributes:
        evals: examples that every model is measured on.
        settings: what the numbers depend on, with its context indices chosen.
        workers: processes; None takes what joblib is configured to.
        progress: show the cost and a bar while it runs, if this is a terminal or a notebook.
        n_taken: measurements taken so far.
        n_stored: measurements that were found in the store.
        damaged: stored measurements that were damaged and taken again.
        missing: per model the snapshots whose weights could not be had or used, with the reason.
    """

    evals: EvalSet
    settings: TableSettings
    workers: int | None
    progress: bool
    n_taken: int = 0
    n_stored: int = 0
    damaged: list[str] = field(default_factory=list[str])
    missing: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def collect(self, columns: Mapping[str, Column], rows: Sequence[Row]) -> dict[str, xr.Dataset]:
        """The data set of every model."""
        for column in columns.values():
            column.store.clear_temporaries()  # also where nothing is left to measure
        measurements = self._measurements(rows)
        jobs = [self._jobs(column, measurements) for column in columns.values()]
        self._take([job for of_column in jobs for job in of_column], "measuring snapshots")
        pairs = zip(columns.values(), jobs, strict=True)
        had = [self._had(column, of_column, measurements) for column, of_column in pairs]
        models = [model for _, model in had]
        joints = self._ablate_induction_heads(models, [column for column, _ in had])
        by_row = {row.name: self._row_values(row, models) for row in rows}
        return {
            model.name: model_dataset(model, {name: values[place] for name, values in by_row.items()}, joint)
            for place, (model, joint) in enumerate(zip(models, joints, strict=True))
        }

    def _measurements(self, rows: Sequence[Row]) -> list[str]:
        """Names of everything that is measured on every snapshot."""
        needs = [need for row in rows for need in row.needs if need != "ablation" or self.settings.ablate]
        measurements = list(dict.fromkeys([*_ALWAYS, *needs]))
        if unknown := set(measurements) - set(MEASUREMENTS):
            raise InputError(f"a row needs {', '.join(unknown)}, but there are only {', '.join(MEASUREMENTS)}")
        return measurements

    def _jobs(self, column: Column, measurements: Sequence[str]) -> list[Job]:
        """One per snapshot, with an entry per measurement."""
        return [
            Job(
                snapshot,
                tuple(make_entry(snapshot, name, evals=self.evals, settings=self.settings) for name in measurements),
                column.store,
            )
            for snapshot in column.snapshots
        ]

    def _had(self, column: Column, jobs: Sequence[Job], measurements: Sequence[str]) -> tuple[Column, MeasuredModel]:
        """The column without the snapshots that could not be measured, and its measurements."""
        notes = MissingNotes(column.store.folder)
        there = [job for job in jobs if _is_stored(job.entries, column)]
        steps = {job.snapshot.step for job in there}
        missing = {str(job.snapshot): notes.reason(job.snapshot) for job in jobs if job.snapshot.step not in steps}
        if missing:
            self.missing[column.name] = missing
        if not there:
            raise DownloadError(
                f"{column.name}: none of its {len(jobs)} snapshots could be measured; the first: "
                f"{next(iter(missing.values()))}. The same call tries again"
            )
        column = replace(column, snapshots=[job.snapshot for job in there], missing=missing)
        model = MeasuredModel(
            name=column.name,
            description=column.describe(),
            steps=[snapshot.step for snapshot in column.snapshots],
            tokens_elapsed=[snapshot.tokens_elapsed for snapshot in column.snapshots],
            keys={
                name: [(job.entries[place].key, job.entries[place].form) for job in there]
                for place, name in enumerate(measurements)
            },
            store=column.store,
            scoring=self.settings.scoring,
        )
        return column, model

    def _take(self, jobs: Sequence[Job], what: str) -> None:
        """Measure what the store lacks, after saying what it costs."""
        todo = plan(jobs)
        self.n_taken += todo.n_entries
        self.n_stored += todo.n_stored
        self.damaged += todo.damaged
        cost = (
            f"{what}: {todo.n_entries} measurements of {len(todo.jobs)} snapshots to take, {todo.n_stored} stored; "
            f"{self._n_tokens(todo.jobs):,} tokens to run"
        )
        _log.info(cost)
        run_jobs(todo.jobs, self.evals, self.settings, workers=self.workers, progress=self.progress, what=cost)

    def _n_tokens(self, jobs: Sequence[Job]) -> int:
        """Tokens that go through a model, ablations counted once per head or group."""
        return self.evals.tokens.numel() * sum(entry.n_passes for job in jobs for entry in job.entries)

    def _ablate_induction_heads(
        self, models: Sequence[MeasuredModel], columns: Sequence[Column]
    ) -> list[xr.Dataset | None]:
        """Per model the joint ablation of the induction heads of its last snapshot; None where there are none."""
        entries = [self._joint_entries(*pair) for pair in zip(models, columns, strict=True)]
        jobs = [
            Job(column.snapshots[-1], tuple(kinds.values()), column.store)
            for column, kinds in zip(columns, entries, strict=True)
            if kinds
        ]
        self._take(jobs, "ablating induction heads together")
        return [self._joint(*triple) for triple in zip(models, columns, entries, strict=True)]

    def _joint(self, model: MeasuredModel, column: Column, kinds: Mapping[str, Entry]) -> xr.Dataset | None:
        """What ablating the induction heads together did; None where there are none, or the last snapshot is gone."""
        if not kinds:
            return None
        if not _is_stored(kinds.values(), column):
            last = column.snapshots[-1]
            told = self.missing.setdefault(column.name, {})
            told[f"{last}, induction heads together"] = MissingNotes(column.store.folder).reason(last)
            return None
        return joint_ablation(
            model, {kind: AblationLosses(model.read(entry.key, entry.form)) for kind, entry in kinds.items()}
        )

    def _joint_entries(self, model: MeasuredModel, column: Column) -> dict[str, Entry]:
        """Per kind of ablation its entry."""
        heads = induction_heads(model.head_types) if self.settings.ablate else []
        if not heads:
            return {}
        groups = groups_to_ablate(heads)
        options = [(kind, {"kind": kind, "heads": groups}) for kind in ABLATIONS]
        last = column.snapshots[-1]
        return {
            kind: make_entry(last, "ablation", evals=self.evals, settings=self.settings, options=choice)
            for kind, choice in options
        }

    def _row_values(self, row: Row, models: Sequence[MeasuredModel]) -> Sequence[xr.DataArray | NotMeasured]:
        if "ablation" in row.needs and not self.settings.ablate:
            return [_NO_ABLATION] * len(models)
        return row.values(models)

    def record(self) -> dict[str, Any]:
        """What was done, for the table's provenance."""
        return {
            "n_taken": self.n_taken,
            "n_stored": self.n_stored,
            "damaged_entries": self.damaged,
            "missing": self.missing,
        }


def _is_stored(entries: Iterable[Entry], column: Column) -> bool:
    return all(column.store.path(entry.key).exists() for entry in entries)
