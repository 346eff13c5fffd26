"""The Model Analysis Table: every measurement of the paper for every snapshot of several models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.atomic import write_bytes
from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.models.files import library_versions
from ih_lens.parallel import one_thread_in_numpy
from ih_lens.report.collect import Collector
from ih_lens.report.columns import RunsLike, arrange, evaluation_set
from ih_lens.report.disk import load_datasets, save_datasets
from ih_lens.report.joint_ablation import induction_heads
from ih_lens.report.model_data import joint_ablation_of, phase_change_of, values_of
from ih_lens.report.page import table_page
from ih_lens.report.panels import row_figure
from ih_lens.report.rows import PAPER_ROWS, Row
from ih_lens.report.settings import TableSettings
from ih_lens.report.summary import summary_html
from ih_lens.types import HeadIndex
from ih_lens.validate import at_least


@dataclass(frozen=True)
class ModelAnalysisTable:
    """The paper's Model Analysis Table: one column per model, one row per measurement over training.

    Made by `from_runs` or `load`.

    Attributes:
        datasets: per model all its numbers, labelled: every row under its name, every head evaluator, `head_type`
            [layer, head], the losses `random_token` and `at_indices`, and the ablation of all induction heads together.
            Training is the dimension `snapshot` with `step` and `tokens_elapsed`.
        record: series, settings, evaluation set, context indices, library versions, and, until it is saved, how many
            measurements this call took and how many it found.

    Examples:
        >>> table = ModelAnalysisTable.from_runs(["runs/1L", "runs/2L"])
        >>> table["prefix_matching"]["2L"].isel(snapshot=-1).max().item()
        0.91
        >>> table.to_html("table.html")
    """

    datasets: Mapping[str, xr.Dataset]
    record: Mapping[str, Any]

    @classmethod
    def from_runs(
        cls,
        runs: RunsLike,
        *,
        evals: EvalSet | None = None,
        settings: TableSettings | None = None,
        store: str | Path | None = None,
        workers: int | None = None,
        progress: bool = True,
        rows: Sequence[Row] = PAPER_ROWS,
    ) -> "ModelAnalysisTable":
        """Measure every snapshot of some runs, as far as it was not measured before, and analyse them.

        Every measurement is stored under a key made of all that its numbers depend on: weights, architecture,
        examples, settings. Asked for again, nothing is measured; an added snapshot or model costs only itself; an
        interrupted call goes on where it was. A damaged entry is measured again and noted in `record`.

        Args:
            runs: runs (trained here or by `published_run`) or their folders; a dictionary makes one table per series,
                titled by its keys. A run whose training is not finished is measured as far as it goes, and marked.
            evals: examples to measure on; by default the runs' held-out tokens, which must then be the same.
            settings: what the numbers depend on.
            store: folder of the measurements; by default `measured` inside each run's folder.
            workers: processes that measure side by side; by default what `joblib.parallel_config` says, for a cluster,
                and otherwise this process alone.
            progress: show the cost and a bar while it runs, if this is a terminal or a notebook.
            rows: what to analyse and to show.

        Raises:
            InputError: if there is nothing to measure, on no examples, or a context index lies outside them.
            FingerprintError: if the runs hold out different examples and `evals` is not given, or published models
                have different tokenizers.
            DownloadError: if none of a model's snapshots can be had and measured; where some can, see `missing`.
            DamagedFileError: if a run or a snapshot is damaged.
            WorkerError: if worker processes keep dying; what was measured until then is kept.
            StorageError: if the disk is full or the store cannot be written, and something is to be measured.

        Examples:
            >>> ModelAnalysisTable.from_runs({"plain": [run_1, run_2], "smeared keys": ["runs/1L-smeared"]}, workers=4)
        """
        if workers is not None:
            at_least("workers", workers, 1)
        settings = settings or TableSettings()
        series, columns = arrange(runs, store)
        examples = evaluation_set(columns, evals, settings)
        settings = settings.resolved(examples.n_pos)
        collector = Collector(examples, settings, workers, progress)
        with one_thread_in_numpy():
            datasets = collector.collect(columns, rows)
        record = {
            "series": series,
            "rows": [row.name for row in rows],
            "settings": settings.to_dict(),
            "examples": {
                "fingerprint": examples.fingerprint,
                "n_examples": examples.n_examples,
                "n_pos": examples.n_pos,
                "seed": examples.seed,
                "source": dict(examples.description or {}),
            },
            "scoring": settings.scoring,
            "collection": collector.record(),
            "published": {name: told for name, column in columns.items() if (told := column.published) is not None},
            "versions": library_versions(),
        }
        return cls(datasets, record)

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self.datasets)

    @property
    def series(self) -> dict[str, list[str]]:
        """Names of the models in each series."""
        return self.record["series"]

    def dataset(self, model: str) -> xr.Dataset:
        """All numbers of one model."""
        if model not in self.datasets:
            raise InputError(f"no model {model!r} in this table; there are {', '.join(self.models)}")
        return self.datasets[model]

    def __getitem__(self, name: str) -> dict[str, xr.DataArray]:
        """A row, or another measure, of every model that has it; standard errors are the coordinate `stderr`."""
        known = {str(variable) for dataset in self.datasets.values() for variable in dataset.data_vars}
        if name not in known | set(self.record["rows"]):
            raise InputError(f"no measure {name!r} in this table; there are {', '.join(sorted(known))}")
        found = {model: values_of(dataset, name) for model, dataset in self.datasets.items()}
        return {model: values for model, values in found.items() if values is not None}

    @property
    def missing(self) -> dict[str, dict[str, str]]:
        """Per model the snapshots whose weights could not be had, with the reason; the same call tries them again."""
        return self.record["collection"]["missing"]

    @property
    def phase_changes(self) -> dict[str, PhaseChange]:
        """The phase change of each model, in tokens elapsed; "not found" is an answer."""
        return {model: phase_change_of(dataset) for model, dataset in self.datasets.items()}

    @property
    def head_types(self) -> dict[str, xr.DataArray]:
        """Type of every head in each model's last snapshot, [layer, head]."""
        return {model: dataset["head_type"] for model, dataset in self.datasets.items()}

    @property
    def induction_heads(self) -> dict[str, list[HeadIndex]]:
        """The induction heads of each model's last snapshot."""
        return {model: induction_heads(types) for model, types in self.head_types.items()}

    @property
    def joint_ablation(self) -> dict[str, xr.Dataset]:
        """What ablating each induction head, and last all of them together, does to the in-context learning score.

        Only of models that have induction heads: over (kind, group) the variables `score`, `change` and
        `share_removed`, each with its standard error; see `ih_lens.report.joint_ablation`.
        """
        found = {model: joint_ablation_of(dataset) for model, dataset in self.datasets.items()}
        return {model: joint for model, joint in found.items() if joint is not None}

    def figure(self, row: str, series: str | None = None, *, rows: Sequence[Row] = PAPER_ROWS) -> go.Figure:
        """One row of one series as a plotly figure, for a notebook.

        Args:
            row: name of the row.
            series: title of the series; by default the first.
            rows: where to look for the row.
        """
        by_name = {entry.name: entry for entry in rows}
        title = next(iter(self.series)) if series is None else series
        if row not in by_name or title not in self.series:
            raise InputError(
                f"no row {row!r} of series {title!r}; there are the rows {', '.join(by_name)} "
                f"and the series {', '.join(self.series)}"
            )
        return row_figure(by_name[row], {name: self.datasets[name] for name in self.series[title]})

    def to_html(
        self, path: str | Path, *, title: str = "Model Analysis Table", rows: Sequence[Row] = PAPER_ROWS
    ) -> Path:
        """Write the table as one page that needs no network and nothing beside it.

        Args:
            path: the file; one that is there is replaced.
            title: heading of the page.
            rows: what to show, in this order; rows that a model has no values for are marked with the reason.

        Returns:
            The path.
        """
        target = Path(path)
        page = table_page(self.datasets, self._lasting_record, title=title, rows=rows)
        write_bytes(target, page.encode(errors="backslashreplace"))
        return target

    def save(self, path: str | Path) -> Path:
        """Write all numbers as one zarr folder: `xr.open_datatree(path)` reads it, and so does `load`.

        Raises:
            InputError: if something else than a saved table is there.
        """
        save_datasets(path, self.datasets, self._lasting_record)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "ModelAnalysisTable":
        """Read a saved table; needs neither models nor runs.

        Raises:
            DamagedFileError: if it is no saved table, altered, or of another version.
        """
        return cls(*load_datasets(path))

    @property
    def _lasting_record(self) -> dict[str, Any]:
        """The record without how this call came by the numbers: files of equal numbers are equal byte for byte."""
        return {**self.record, "collection": {"missing": self.missing}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.models)}; rows {', '.join(self.record['rows'])})"

    def _repr_html_(self) -> str:
        return summary_html(self.datasets)
