"""The table's numbers are those of the measures and analyses called one by one."""

import shutil
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.report.joint_ablation import groups_to_ablate, induction_heads
from ih_lens.report.model_data import reasons_of
from ih_lens.report.settings import TableSettings
from ih_lens.report.table import ModelAnalysisTable
from ih_lens.results import TokenLosses
from ih_lens.types import HeadIndex
from tests.report.conftest import SETTINGS

EARLY, LATE = 2, 23


@pytest.fixture(scope="module")
def evals(runs: list[ih.Run]) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(runs[0].held_out[:12], seed=0)


def losses_at(runs: list[ih.Run], evals: ih.EvalSet, index: int) -> TokenLosses:
    return ih.token_losses(runs[1].snapshots[index].load(), evals)


def test_losses_and_scores_are_those_of_the_measures(
    table: ModelAnalysisTable, runs: list[ih.Run], evals: ih.EvalSet
) -> None:
    data, losses = table.dataset("2L"), losses_at(runs, evals, 3)
    scores = ih.score_heads(runs[1].snapshots[3].load(), text=evals.tokens[:10])
    np.testing.assert_array_equal(data["random_token"][3], losses.random_token)
    np.testing.assert_array_equal(data["loss_by_context_index"][3], losses.by_context_index)
    np.testing.assert_array_equal(data["loss_derivative"][3], ih.loss_derivative(losses))
    np.testing.assert_allclose(data["loss"][3], losses.random_token.mean())
    expected = ih.in_context_learning_score(losses, late=LATE, early=EARLY)
    np.testing.assert_array_equal(data["in_context_learning_score"][3], expected)
    np.testing.assert_array_equal(table["in_context_learning_score"]["2L"]["stderr"][3], expected["stderr"])
    for name in scores.names:
        np.testing.assert_array_equal(data[name][3], scores[name])
    assert table.record["scoring"] == {"early": EARLY, "late": LATE, "window": 0}
    assert table.record["examples"]["fingerprint"] == evals.fingerprint


def test_attributions_are_those_of_the_analyses(
    table: ModelAnalysisTable, runs: list[ih.Run], evals: ih.EvalSet
) -> None:
    unablated = losses_at(runs, evals, 5)
    ablated = ih.ablate_heads(runs[1].snapshots[5].load(), evals)
    expected = ih.attribution_to_in_context_learning(ablated, unablated, late=LATE, early=EARLY)
    np.testing.assert_allclose(table["ablation_in_context_learning"]["2L"][5], expected, atol=1e-6)


def test_the_before_and_after_vector_lies_between_the_ends_of_the_phase_change(
    runs: list[ih.Run], evals: ih.EvalSet, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps bring no phase change, so one is declared."""
    change = PhaseChange(True, 384, 1152, 0.8, 1, 3, "declared")
    monkeypatch.setattr("ih_lens.report.measured.phase_change", lambda steps, scores: change)
    table = ModelAnalysisTable.from_runs(runs[1:2], settings=SETTINGS, store=store, progress=False)
    assert table.phase_changes == {"2L": change}
    vector = ih.before_and_after_vector(losses_at(runs, evals, 1), losses_at(runs, evals, 3))
    ablated = ih.ablate_heads(runs[1].snapshots[5].load(), evals)
    expected = ih.attribution_to_before_and_after(ablated, losses_at(runs, evals, 5), vector)
    np.testing.assert_allclose(table["ablation_before_and_after"]["2L"][5], expected, atol=1e-6)
    assert table["ablation_before_and_after"]["2L"].dims == ("snapshot", "layer", "head")
    bands = [shape for shape in table.figure("loss").layout.shapes if (shape.x0, shape.x1) == (384, 1152)]
    assert len(bands) == 1


def test_without_a_phase_change_there_is_no_such_vector(table: ModelAnalysisTable) -> None:
    missing = [name for name, change in table.phase_changes.items() if not change.found]
    assert missing
    for name in missing:
        assert reasons_of(table.dataset(name))["ablation_before_and_after"].startswith("because no phase change")


def test_the_pca_is_one_fit_over_all_models(table: ModelAnalysisTable, runs: list[ih.Run], evals: ih.EvalSet) -> None:
    every = {run.name: [ih.token_losses(place.load(), evals) for place in run.snapshots] for run in runs}
    pca = ih.token_loss_pca(list(every.values()))
    for name, projection in zip(every, pca.projections, strict=True):
        np.testing.assert_allclose(table["token_loss_pca"][name], projection, atol=1e-5)


def test_training_is_labelled_with_steps_and_tokens(table: ModelAnalysisTable) -> None:
    for values in (table["loss"]["2L"], table["prefix_matching"]["2L"], table["token_loss_pca"]["2L"]):
        assert values["step"].to_numpy().tolist() == [0, 2, 4, 6, 8, 10]
        assert values["tokens_elapsed"].to_numpy().tolist() == [step * 8 * 24 for step in (0, 2, 4, 6, 8, 10)]


def test_names_and_series(table: ModelAnalysisTable) -> None:
    assert table.models == ["1L", "2L", "1Ls"]
    assert table.series == {"plain": ["1L", "2L"], "smeared keys": ["1L", "1Ls"]}
    assert "2L" in repr(table)


def test_a_row_that_is_not_defined_says_why(table: ModelAnalysisTable) -> None:
    assert reasons_of(table.dataset("1L"))["qk_eigenvalue_trace"] == "because it needs earlier layers to compose with"
    assert "qk_eigenvalue_trace" not in reasons_of(table.dataset("2L"))


def test_without_ablation_its_rows_are_marked(runs: list[ih.Run], store: Path) -> None:
    settings = TableSettings(n_examples=12, ablate=False)
    table = ModelAnalysisTable.from_runs(runs[:1], settings=settings, store=store, progress=False)
    assert table["ablation_in_context_learning"] == {}
    assert "heads were not ablated" in reasons_of(table.dataset("1L"))["ablation_in_context_learning"]
    assert table.joint_ablation == {}


def test_induction_heads_are_ablated_together(
    runs: list[ih.Run], evals: ih.EvalSet, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No head of these runs is an induction head, so three are declared to be."""
    types = xr.DataArray([["induction", "other"], ["induction", "induction"]], dims=("layer", "head"))
    monkeypatch.setattr("ih_lens.report.measured.head_types", lambda scores: types)
    table = ModelAnalysisTable.from_runs(runs[1:2], settings=SETTINGS, store=store, progress=False)
    joint = table.joint_ablation["2L"]
    assert joint["group"].to_numpy().tolist() == ["L0H0", "L1H0", "L1H1", "L0H0+L1H0+L1H1"]
    assert joint["kind"].to_numpy().tolist() == ["pattern_preserving", "full"]
    last = runs[1].snapshots[-1].load()
    unablated = ih.in_context_learning_score(ih.token_losses(last, evals), late=LATE, early=EARLY)
    assert joint.attrs["unablated"] == pytest.approx(float(unablated))
    for kind in ("pattern_preserving", "full"):
        groups = [["L0H0", "L1H0", "L1H1"], ["L1H0"]]
        losses = ih.ablate_heads(last, evals, kind=kind, heads=groups)
        expected = ih.in_context_learning_score(losses, late=LATE, early=EARLY).to_numpy()
        found = joint["score"].sel(kind=kind, group=["L0H0+L1H0+L1H1", "L1H0"]).to_numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
        left = 1 - joint["share_removed"].sel(kind=kind, group="L1H0")
        assert float(left) == pytest.approx(expected[1] / float(unablated), abs=1e-5)


def test_induction_heads_and_their_groups() -> None:
    types = xr.DataArray([["other", "other"], ["induction", "other"]], dims=("layer", "head"))
    assert induction_heads(types) == [HeadIndex(1, 0)]
    assert groups_to_ablate([]) == []
    assert groups_to_ablate([HeadIndex(1, 0)]) == [["L1H0"]]
    assert groups_to_ablate([HeadIndex(0, 1), HeadIndex(1, 0)]) == [["L0H1"], ["L1H0"], ["L0H1", "L1H0"]]


def test_runs_of_one_name_are_told_apart(runs: list[ih.Run], tmp_path: Path, store: Path) -> None:
    copies = [Path(shutil.copytree(runs[0].path, tmp_path / seed / "model")) for seed in ("a", "b")]
    table = ModelAnalysisTable.from_runs([*copies, runs[1]], settings=SETTINGS, store=store, progress=False)
    assert table.models == ["a/model", "b/model", "2L"]
    with pytest.raises(InputError, match="every run of the series 'Models' once"):
        ModelAnalysisTable.from_runs([copies[0], copies[0]], store=store, progress=False)


def test_a_row_as_a_figure(table: ModelAnalysisTable) -> None:
    assert isinstance(table.figure("prefix_matching"), go.Figure)
    assert len(list(table.figure("loss", "smeared keys").select_xaxes())) == 2
    with pytest.raises(InputError, match=r"no row 'losses' of series 'plain'; there are the rows token_loss_pca, loss"):
        table.figure("losses")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table: table["nothing"], "no measure 'nothing' in this table; there are ablation_"),
        (lambda table: table.dataset("3L"), "no model '3L' in this table; there are 1L, 2L, 1Ls"),
        (lambda table: ModelAnalysisTable.from_runs([]), r"every run of the series 'Models' once, and at least one"),
        (lambda table: ModelAnalysisTable.from_runs("runs"), r"expected a list of runs .*write \['runs'\]"),
        (lambda table: ModelAnalysisTable.from_runs(["x"], workers=0), "workers: expected an integer of at least 1"),
    ],
)
def test_wrong_calls(table: ModelAnalysisTable, call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(table)  # pyright: ignore[reportCallIssue]


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"holds no run\.json"):
        ModelAnalysisTable.from_runs([tmp_path])
