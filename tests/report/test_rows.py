"""Every row of the paper's table: the order, and what each must offer."""

import re
from dataclasses import replace
from pathlib import Path
from string import Formatter

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.errors import InputError
from ih_lens.report.measuring import MEASUREMENTS
from ih_lens.report.model_data import reasons_of
from ih_lens.report.rows import PAPER_ROWS, Drawing, NotMeasured, Row, each
from ih_lens.report.rows._coarse import MAX_SNAPSHOTS, thinned
from ih_lens.report.table import ModelAnalysisTable
from ih_lens.viz import plot_loss
from tests.report.conftest import SETTINGS

NUMBERS = {"early", "late", "window", "n_examples", "ablation", "replace"}
every_row = pytest.mark.parametrize("row", PAPER_ROWS, ids=lambda row: row.name)


def test_the_papers_rows_in_the_papers_order() -> None:
    assert [row.name for row in PAPER_ROWS] == [
        "token_loss_pca",
        "loss",
        "loss_by_context_index",
        "loss_derivative",
        "in_context_learning_score",
        "prefix_matching",
        "qk_eigenvalue_trace",
        "ablation_before_and_after",
        "ablation_in_context_learning",
    ]


@every_row
def test_a_row_explains_itself(row: Row) -> None:
    assert row.title
    assert row.source
    for text in (row.summary, row.definition):
        assert {name for _, name, _, _ in Formatter().parse(text) if name} <= NUMBERS
    paragraphs = row.paragraphs(dict.fromkeys(NUMBERS, 7))
    assert all(re.fullmatch(r"\S.*\S", text) and "{" not in text for text in paragraphs)
    assert sum(map(len, paragraphs)) > 150
    assert set(row.needs) <= set(MEASUREMENTS)


@every_row
def test_every_model_has_values_or_a_reason(row: Row, table: ModelAnalysisTable) -> None:
    for name in table.models:
        dataset = table.dataset(name)
        reason = reasons_of(dataset).get(row.name)
        if reason is None:
            values = dataset[row.name]
            assert values.dims[0] == "snapshot"
            assert not bool(values.isnull().all())
        else:
            assert reason.startswith("because ")


@every_row
def test_panels_share_their_axes_and_are_drawn_or_marked(row: Row, table: ModelAnalysisTable) -> None:
    figure = table.figure(row.name)
    axes = list(figure.select_xaxes())
    assert len(axes) == len(table.series["plain"])
    assert all(axis.matches == "x" for axis in axes)
    assert all(axis.matches == "y" for axis in list(figure.select_yaxes())[1:])
    for place, name in enumerate(table.series["plain"], start=1):
        axis = "x" if place == 1 else f"x{place}"
        drawn = [trace for trace in figure.data if (trace.xaxis or "x") == axis and len(trace.x) > 1]
        marked = [note for note in figure.layout.annotations if note.xref == f"{axis} domain" and "not " in note.text]
        assert bool(drawn) != bool(marked), name


@every_row
def test_an_unmeasured_model_is_marked(row: Row, table: ModelAnalysisTable) -> None:
    types, change = table.head_types, {"2L": None, "other": None}
    known = table[row.name].get("2L")
    drawing = Drawing({"2L": known, "other": None}, {"2L": types["2L"], "other": None}, change, log_tokens=False)
    figure = row.draw(drawing)
    assert "not measured" in [note.text for note in figure.layout.annotations]


@every_row
def test_exponential_snapshots_have_a_logarithmic_axis(row: Row, table: ModelAnalysisTable) -> None:
    drawing = Drawing(table[row.name], table.head_types, dict.fromkeys(table[row.name]), log_tokens=True)
    if table[row.name]:
        kinds = {axis.type for axis in row.draw(drawing).select_xaxes()}
        assert kinds == ({None} if row.name == "token_loss_pca" else {"log"})


def test_a_new_row_is_one_object(runs: list[ih.Run], store: Path, tmp_path: Path) -> None:
    def draw(drawing: Drawing) -> go.Figure:
        return plot_loss(drawing.values, **drawing.over_training)

    row = Row(
        "last_loss",
        "Last",
        "Loss at the end.",
        "The loss at the last index.",
        "no source",
        ("losses",),
        each(_last),
        draw,
    )
    rows = (*PAPER_ROWS[:2], row)
    table = ModelAnalysisTable.from_runs(runs[:2], settings=SETTINGS, store=store, progress=False, rows=rows)
    assert table["last_loss"]["2L"].dims == ("snapshot",)
    assert "last_loss" not in table.dataset("1L")
    page = table.to_html(tmp_path / "page.html", rows=rows).read_text()
    assert 'data-row="last_loss"' in page
    assert "1L: not measured, because one layer is too few" in page
    odd = replace(row, needs=("magic",))
    with pytest.raises(InputError, match="a row needs magic, but there are only losses"):
        ModelAnalysisTable.from_runs(runs[:1], settings=SETTINGS, store=store, progress=False, rows=[odd])


def _last(model: "object") -> xr.DataArray | NotMeasured:
    if model.description["n_layers"] == 1:  # pyright: ignore[reportAttributeAccessIssue]
        return NotMeasured("because one layer is too few")
    return model.losses.by_context_index.isel(context_index=-1, drop=True)  # pyright: ignore[reportAttributeAccessIssue]


def test_large_maps_are_thinned_for_drawing_only() -> None:
    size = {"snapshot": 250, "context_index": 511}
    full = xr.DataArray(np.zeros((250, 511)), {"context_index": np.arange(1, 512)}, tuple(size))
    small = thinned(full)
    assert small is not None
    assert small.sizes["snapshot"] == MAX_SNAPSHOTS
    assert small.sizes["context_index"] == 511  # the figure makes rows of them
    assert thinned(None) is None
    same = full[:100]
    xr.testing.assert_identical(thinned(same), same)
