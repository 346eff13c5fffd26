"""A stored measurement is held against what its kind must look like, whatever checksum it brings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import DamagedFileError
from ih_lens.report.jobs import Entry, make_entry
from ih_lens.report.measuring import MEASUREMENTS
from ih_lens.report.store import MeasurementStore
from tests.report.conftest import SETTINGS

Forge = Callable[[xr.Dataset], xr.Dataset]


def _changed(dataset: xr.Dataset, name: str, **changes: object) -> xr.Dataset:
    changed = dataset[name].copy(deep=True)
    changed.attrs |= changes
    return dataset.assign({name: changed})


FORGED: dict[str, tuple[Forge, str]] = {
    "a variable too few": (lambda found: found.drop_vars(next(iter(found.data_vars))), "variables: expected"),
    "a variable too many": (lambda found: found.assign(more=0.0), "variables: expected"),
    "a label too few": (lambda found: found.drop_vars(next(iter(found.coords))), "labels: expected"),
    "an example or head too few": (
        lambda found: found.isel({next(iter(found.dims)): slice(1, None)}),
        "labels .*expected",
    ),
    "other labels": (
        lambda found: found.assign_coords({(name := next(iter(found.coords))): found[name] + 1}),
        "labels .*expected",
    ),
    "labels of another type": (
        lambda found: found.assign_coords({(name := next(iter(found.coords))): found[name].astype(float)}),
        "labels .*expected",
    ),
    "turned dimensions": (lambda found: found.transpose(*reversed(list(found.dims))), "dimensions of .*expected"),
    "whole numbers": (lambda found: xr.zeros_like(found, dtype=np.int64).assign_attrs(found.attrs), "floating-point"),
    "a list as an attribute": (lambda found: found.assign_attrs(note=[1]), "no text and no number"),
    "another unit": (lambda found: _changed(found, str(next(iter(found.data_vars))), range="x"), "attributes of"),
}
ABOUT = {"losses": "fingerprint", "head_scores": "seed", "ablation": "kind"}


@pytest.fixture(scope="module", params=MEASUREMENTS)
def kept(
    request: pytest.FixtureRequest, runs: list[ih.Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, MeasurementStore, Entry, xr.Dataset]:
    """One measurement of each kind, as it was taken."""
    evals = EvalSet.from_tokens(runs[0].held_out[:3])
    settings, snapshot = SETTINGS.resolved(evals.n_pos), runs[0].snapshots[-1]
    entry = make_entry(snapshot, request.param, evals=evals, settings=settings)
    store = MeasurementStore(tmp_path_factory.mktemp("store"))
    found = entry.measure(snapshot.load(), evals, settings)
    store.write(entry.key, found)
    return request.param, store, entry, found


def test_what_was_measured_is_of_its_form(kept: tuple[str, MeasurementStore, Entry, xr.Dataset]) -> None:
    _, store, entry, found = kept
    back = store.read(entry.key, entry.form)
    assert back is not None
    xr.testing.assert_identical(back, found)


@pytest.mark.parametrize("forged", FORGED)
def test_every_other_form_is_refused(
    forged: str, kept: tuple[str, MeasurementStore, Entry, xr.Dataset], tmp_path: Path
) -> None:
    _, _, entry, found = kept
    change, message = FORGED[forged]
    store = MeasurementStore(tmp_path)
    store.write(entry.key, change(found))
    with pytest.raises(DamagedFileError, match=rf"(?s){entry.key}.* is damaged .*{message}.*, got .*measure again"):
        store.read(entry.key, entry.form)
    assert store.read(entry.key) is not None, "the checksum fits"
    assert not store.holds(entry.key, entry.form)


def test_what_it_says_of_itself_must_fit(kept: tuple[str, MeasurementStore, Entry, xr.Dataset], tmp_path: Path) -> None:
    name, _, entry, found = kept
    store = MeasurementStore(tmp_path)
    store.write(entry.key, found.assign_attrs({ABOUT[name]: "another"}))
    with pytest.raises(DamagedFileError, match=f"{ABOUT[name]}: expected .*, got 'another'"):
        store.read(entry.key, entry.form)


def test_losses_are_finite_and_scores_need_not_be(
    kept: tuple[str, MeasurementStore, Entry, xr.Dataset], tmp_path: Path
) -> None:
    name, _, entry, found = kept
    store = MeasurementStore(tmp_path)
    store.write(entry.key, xr.full_like(found, np.nan).assign_coords(found.coords))
    assert store.holds(entry.key, entry.form) == (name == "head_scores")


def test_a_forged_entry_is_measured_anew(runs: list[ih.Run], tmp_path: Path) -> None:
    settings = replace(SETTINGS, ablate=False)
    first = ih.ModelAnalysisTable.from_runs(runs[:1], settings=settings, store=tmp_path, progress=False)
    store = MeasurementStore(tmp_path)
    path = min(tmp_path.glob("head_scores-*"))
    whole = store.read(path.stem)
    assert whole is not None
    store.write(path.stem, whole.drop_vars("prefix_matching"))
    again = ih.ModelAnalysisTable.from_runs(runs[:1], settings=settings, store=tmp_path, progress=False)
    assert again.record["collection"]["damaged_entries"] == [str(path)]
    for model in first.models:
        xr.testing.assert_identical(again.dataset(model), first.dataset(model))
