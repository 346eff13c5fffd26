"""Measuring is cached by content: nothing twice, damage noticed, interruptions continued."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.errors import FingerprintError, InputError
from ih_lens.report.measuring import MEASUREMENTS
from ih_lens.report.settings import TableSettings
from ih_lens.report.table import ModelAnalysisTable
from tests.report.conftest import SETTINGS

Spy = list[str]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Names of the measurements that were really taken."""
    return spy_on_measuring(monkeypatch)


def spy_on_measuring(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None] = lambda name: None) -> Spy:
    taken: Spy = []
    for name, recipe in MEASUREMENTS.items():

        def spy(
            *args: Any, name: str = name, measure: Callable[..., xr.Dataset] = recipe.measure, **options: Any
        ) -> Any:
            before(name)
            taken.append(name)
            return measure(*args, **options)

        monkeypatch.setitem(MEASUREMENTS, name, replace(recipe, measure=spy))
    return taken


def make(runs: Any, store: Path | None, **settings: Any) -> ModelAnalysisTable:
    return ModelAnalysisTable.from_runs(runs, settings=replace(SETTINGS, **settings), store=store, progress=False)


def copy_run(run: ih.Run, target: Path, *, n_snapshots: int | None = None) -> Path:
    """A run as it was when only some of its snapshots had been taken."""
    shutil.copytree(run.path, target)
    for snapshot in run.snapshots[n_snapshots:] if n_snapshots else []:
        shutil.rmtree(target / "snapshots" / snapshot.path.name)
    return target


def test_asked_again_nothing_is_measured(
    runs: list[ih.Run], table: ModelAnalysisTable, store: Path, measured: Spy
) -> None:
    again = make(runs[:2], store)
    assert measured == []
    assert again.record["collection"]["n_taken"] == 0
    for name in ("loss", "prefix_matching", "ablation_in_context_learning"):
        xr.testing.assert_identical(again[name]["2L"], table[name]["2L"])


def test_an_added_snapshot_costs_only_itself(runs: list[ih.Run], tmp_path: Path, measured: Spy) -> None:
    path = copy_run(runs[1], tmp_path / "2L", n_snapshots=4)
    table = make([path], None)
    assert sorted(measured) == sorted(["losses", "head_scores", "ablation"] * 4)
    assert (path / "measured").is_dir()
    measured.clear()
    added = runs[1].snapshots[4].path
    shutil.copytree(added, path / "snapshots" / added.name)
    longer = make([path], None)
    assert measured == ["losses", "head_scores", "ablation"]
    assert longer["loss"]["2L"].sizes["snapshot"] == 5
    np.testing.assert_array_equal(longer["loss"]["2L"][:4], table["loss"]["2L"])


def test_an_added_model_costs_only_itself(runs: list[ih.Run], tmp_path: Path, measured: Spy) -> None:
    make(runs[:1], tmp_path)
    measured.clear()
    make(runs[:2], tmp_path)
    assert len(measured) == 3 * len(runs[1].snapshots)


def test_equal_runs_are_measured_once(runs: list[ih.Run], tmp_path: Path, measured: Spy) -> None:
    twin = copy_run(runs[0], tmp_path / "twin")
    table = make([runs[0], twin], tmp_path / "store")
    assert len(measured) == 3 * len(runs[0].snapshots)
    xr.testing.assert_identical(table["loss"]["1L"], table["loss"]["twin"])


def test_an_interruption_loses_only_what_was_in_flight(
    runs: list[ih.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: ModelAnalysisTable
) -> None:
    counter: Spy = []

    def stop_at_the_eighth(name: str) -> None:
        if len(counter) == 8:
            raise KeyboardInterrupt
        counter.append(name)

    with monkeypatch.context() as patch:
        spy_on_measuring(patch, before=stop_at_the_eighth)
        with pytest.raises(KeyboardInterrupt):
            make(runs[:2], tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 8
    taken = spy_on_measuring(monkeypatch)
    finished = make(runs[:2], tmp_path)
    assert len(taken) == 3 * sum(len(run.snapshots) for run in runs[:2]) - 8
    xr.testing.assert_identical(finished["loss"]["1L"], table["loss"]["1L"])


def test_damaged_entries_are_measured_again_and_noted(
    runs: list[ih.Run], tmp_path: Path, measured: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(runs[:1], tmp_path)
    truncated, altered = sorted(tmp_path.glob("*.safetensors"))[::10][:2]
    truncated.write_bytes(truncated.read_bytes()[:100])
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    measured.clear()
    again = make(runs[:1], tmp_path)
    assert len(measured) == 2
    assert set(again.record["collection"]["damaged_entries"]) == {str(truncated), str(altered)}
    assert sum("it is measured again" in message for message in caplog.messages) == 2
    xr.testing.assert_identical(again.dataset("1L"), first.dataset("1L"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"window": 1}, {"losses", "ablation"}),
        ({"late": 20}, {"losses", "ablation"}),
        ({"ablation": "full"}, {"ablation"}),
        ({"replace": "mean"}, {"ablation"}),
        ({"n_text_examples": 3}, {"head_scores"}),
        ({"seed": 1}, {"losses", "head_scores", "ablation"}),
        ({"n_examples": 9}, {"losses", "head_scores", "ablation"}),
        ({"batch_size": 5}, set()),
        ({"threads": 2}, set()),
        ({"ablate": False}, set()),
    ],
    ids=lambda names: "+".join(sorted(names)) or "nothing",
)
def test_changed_settings_cost_what_depends_on_them(
    runs: list[ih.Run],
    table: ModelAnalysisTable,
    store: Path,
    measured: Spy,
    changes: dict[str, Any],
    expected: set[str],
) -> None:
    make(runs[:1], store, **changes)
    assert set(measured) == expected


def test_the_same_weights_in_another_architecture_are_another_entry(
    runs: list[ih.Run], tmp_path: Path, measured: Spy
) -> None:
    twin = copy_run(runs[0], tmp_path / "rotary")
    for file in twin.glob("snapshots/*/snapshot.json"):
        file.write_text(file.read_text().replace('"attn_scale": ', '"attn_scale": 1'))
    make([runs[0], twin], tmp_path / "store")
    assert len(measured) == 2 * 3 * len(runs[0].snapshots)


def test_two_workers_give_the_same_numbers(runs: list[ih.Run], tmp_path: Path, table: ModelAnalysisTable) -> None:
    parallel = ModelAnalysisTable.from_runs(runs[1:2], settings=SETTINGS, store=tmp_path, workers=2, progress=False)
    assert parallel.record["collection"]["n_taken"] == 3 * len(runs[1].snapshots)
    for name in ("random_token", "prefix_matching", "qk_eigenvalue_trace", "ablation_in_context_learning"):
        np.testing.assert_allclose(parallel[name]["2L"], table[name]["2L"], atol=1e-6)


def test_an_error_names_the_snapshot(runs: list[ih.Run], tmp_path: Path) -> None:
    evals = ih.EvalSet.from_tokens(runs[0].held_out[:4] + 1000)
    with pytest.raises(InputError, match=r"1L/step_00000000 \(sha256 .*outside the vocabulary"):
        ModelAnalysisTable.from_runs(runs[:1], evals=evals, store=tmp_path, progress=False)


def test_runs_with_different_held_out_tokens_need_evals(runs: list[ih.Run], tmp_path: Path) -> None:
    cfg = ih.attention_only(1, d_model=16, n_heads=2, d_vocab=32, n_ctx=24)
    config = ih.TrainConfig(n_steps=1, batch_size=2, lr=1e-3, n_held_out=4)
    other = ih.train(cfg, ih.RestartCycle(length=24, period=5), config, out=tmp_path / "other", progress=False)
    with pytest.raises(FingerprintError, match=r"1L and other hold out different examples.*pass evals="):
        ModelAnalysisTable.from_runs([runs[0], other], settings=TableSettings(n_examples=4), store=tmp_path / "s")
    none = ih.train(
        cfg, ih.RestartCycle(length=24), replace(config, n_held_out=0), out=tmp_path / "none", progress=False
    )
    with pytest.raises(InputError, match=r"none has 0 held-out examples, at least 1 .*pass evals="):
        ModelAnalysisTable.from_runs([none])
    with pytest.raises(InputError, match="other has 4 held-out examples, 5 are asked for"):
        ModelAnalysisTable.from_runs([other], settings=TableSettings(n_examples=5))
    evals = ih.EvalSet.from_tokens(other.held_out)
    with pytest.raises(InputError, match="cut the tokens of evals= instead"):
        ModelAnalysisTable.from_runs([other], evals=evals, settings=TableSettings(n_examples=4))
    table = ModelAnalysisTable.from_runs([none, other], evals=evals, store=tmp_path / "s", progress=False)
    assert table.record["examples"]["fingerprint"] == evals.fingerprint


def test_a_run_in_training_is_measured_as_far_as_it_goes(runs: list[ih.Run], tmp_path: Path, store: Path) -> None:
    path = copy_run(runs[0], tmp_path / "1L", n_snapshots=3)
    table = make([path], store)
    assert table["loss"]["1L"]["step"].to_numpy().tolist() == [0, 2, 4]
    assert "unfinished: measured up to step 4 of 10" in table._repr_html_()
