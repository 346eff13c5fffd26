"""Whether a day left what an undisturbed one leaves, and nothing else."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

import ih_lens as ih
from ih_lens.atomic import TEMPORARY_PREFIX
from ih_lens.report.store import MeasurementStore, digest
from ih_lens.training.run_folder import locked
from tests.soak.plan import Plan

_STORE = "measured"


def compare(day: Path, reference: Path, plan: Plan) -> Iterator[str]:
    """All differences between two days' folders, in words."""
    for name in plan.names:
        there, expected = _hashes(day / name), _hashes(reference / name)
        yield from _differences(f"the run {name}", there, expected)
        there, expected = _stored(day / name / _STORE), _stored(reference / name / _STORE)
        yield from _differences(f"the store of {name}", there, expected)
        if len(there) * plan.n_models != plan.n_entries:
            yield f"the store of {name} has {len(there)} entries"
    yield from _tables(day / "table.zarr", reference / "table.zarr")
    yield from left_behind(day, plan)


def left_behind(day: Path, plan: Plan) -> Iterator[str]:
    """Files that no finished day has, and locks that somebody holds."""
    yield from (f"left behind: {path}" for path in sorted(day.rglob(f"{TEMPORARY_PREFIX}*")))
    expected = {*plan.names, "table.html", "table.zarr"}
    yield from (f"unexpected: {path}" for path in sorted(day.iterdir()) if path.name not in expected)
    for name in plan.names:
        try:
            with locked(day / name):
                pass
        except ih.RunError as error:
            yield str(error)


def _differences(what: str, there: dict[str, str], expected: dict[str, str]) -> Iterator[str]:
    for name in sorted({*there, *expected}):
        if there.get(name) != expected.get(name):
            how = "missing" if name not in there else "too many" if name not in expected else "different"
            yield f"{what}: {name} is {how}"


def _hashes(run: Path) -> dict[str, str]:
    """Every file of a run but its record, which holds versions, its lock and its measurements."""
    files = [file for file in run.rglob("*") if file.is_file() and file.name not in {"run.json", ".lock"}]
    own = [file for file in files if file.relative_to(run).parts[0] != _STORE]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in own}


def _stored(store: Path) -> dict[str, str]:
    """Every entry by its arrays and labels; safetensors writes a header in any order."""
    keys = [file.stem for file in store.glob("[!.]*.safetensors")]
    entries = {key: MeasurementStore(store).read(key) for key in keys}
    return {key: digest(entry) for key, entry in entries.items() if entry is not None}


def _tables(there: Path, expected: Path) -> Iterator[str]:
    try:
        table, other = ih.ModelAnalysisTable.load(there), ih.ModelAnalysisTable.load(expected)
    except ih.DamagedFileError as error:
        yield str(error)
        return
    if table.models != other.models or table.missing:
        yield f"the table has {table.models}, without {table.missing}"
        return
    for name in other.models:
        try:
            xr.testing.assert_identical(table.dataset(name), other.dataset(name))
        except AssertionError as error:
            yield f"the table's {name} differs: {error}"
