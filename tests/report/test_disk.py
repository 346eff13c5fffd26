"""Saved tables come back equal, without the runs, and damage is refused."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import xarray as xr

from ih_lens.errors import DamagedFileError, InputError
from ih_lens.report.table import ModelAnalysisTable


@pytest.fixture
def saved(table: ModelAnalysisTable, tmp_path: Path) -> Path:
    return table.save(tmp_path / "new folder" / "table.zarr")


def test_a_saved_table_comes_back_equal(table: ModelAnalysisTable, saved: Path) -> None:
    back = ModelAnalysisTable.load(saved)
    assert back.models == table.models
    assert back.record == {**table.record, "collection": {"missing": table.missing}}
    for name in table.models:
        xr.testing.assert_identical(back.dataset(name), table.dataset(name))
    assert str(back.phase_changes) == str(table.phase_changes)  # a share may be NaN, which equals nothing
    assert list(saved.parent.iterdir()) == [saved]


def test_a_loaded_table_draws_the_same_page(table: ModelAnalysisTable, saved: Path, tmp_path: Path) -> None:
    pages = [made.to_html(tmp_path / "page.html").read_text() for made in (table, ModelAnalysisTable.load(saved))]
    assert pages[0] == pages[1]


def test_any_program_with_xarray_reads_it(table: ModelAnalysisTable, saved: Path) -> None:
    with xr.open_datatree(saved, engine="zarr") as tree:
        assert list(tree["models"].children) == ["000-1L", "001-2L", "002-1Ls"]
        xr.testing.assert_equal(tree["models/001-2L"]["prefix_matching"].load(), table["prefix_matching"]["2L"])


def test_names_of_models_need_not_be_names_of_folders(table: ModelAnalysisTable, tmp_path: Path) -> None:
    names = ["../up", "a/b", "<b>", "zarr.json", ".", "Jürgens Modell"]
    record = {**table.record, "series": {"plain": names}}
    hostile = ModelAnalysisTable({name: renamed(table.dataset("1L"), name) for name in names}, record)
    hostile.save(tmp_path / "table.zarr")
    assert ModelAnalysisTable.load(tmp_path / "table.zarr").models == names
    assert [place.name for place in tmp_path.iterdir()] == ["table.zarr"]


def renamed(dataset: xr.Dataset, name: str) -> xr.Dataset:
    return dataset.assign_attrs(model=json.dumps({**json.loads(dataset.attrs["model"]), "name": name}))


def test_saving_again_replaces_the_table(table: ModelAnalysisTable, saved: Path) -> None:
    smaller = ModelAnalysisTable({"1L": table.dataset("1L")}, {**table.record, "series": {"plain": ["1L"]}})
    smaller.save(saved)
    assert ModelAnalysisTable.load(saved).models == ["1L"]


def test_something_else_is_not_overwritten(table: ModelAnalysisTable, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    for place in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(InputError, match="exists and is no saved table"):
            table.save(place)
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def _other_version(folder: Path) -> None:
    _replace_everywhere(folder, '"version": 2', '"version": 99')


def _foreign(folder: Path) -> None:
    _replace_everywhere(folder, "ih_lens model analysis table", "something else")


def _replace_everywhere(folder: Path, old: str, new: str) -> None:
    for file in (folder / ".zattrs", folder / ".zmetadata"):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def _lost_chunk(folder: Path) -> None:
    chunks = [file for file in (folder / "models" / "001-2L" / "prefix_matching").iterdir() if file.name[0] != "."]
    chunks[0].unlink()


def _altered_chunk(folder: Path) -> None:
    chunks = [file for file in (folder / "models" / "001-2L" / "random_token").iterdir() if file.name[0] != "."]
    chunks[0].write_bytes(chunks[0].read_bytes()[:-9])


def _lost_model(folder: Path) -> None:
    shutil.rmtree(folder / "models" / "001-2L")
    metadata = json.loads((folder / ".zmetadata").read_text())
    kept = {name: value for name, value in metadata["metadata"].items() if "001-2L" not in name}
    (folder / ".zmetadata").write_text(json.dumps({**metadata, "metadata": kept}))


def _no_metadata(folder: Path) -> None:
    (folder / ".zmetadata").write_text("{")


def _linked(folder: Path, name: str) -> None:
    elsewhere = (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(elsewhere)


def _odd_attribute(folder: Path, name: str, value: object) -> None:
    metadata = json.loads((folder / ".zmetadata").read_text())
    metadata["metadata"]["models/001-2L/prefix_matching/.zattrs"][name] = value
    (folder / ".zmetadata").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_other_version, "table of version 99, this ih_lens reads version 2"),
        (_foreign, "is no saved table"),
        (_lost_chunk, "should hold 1 files of 96 bytes, and holds 0"),
        (_altered_chunk, "should hold 1 files of 288 bytes, and holds 0 such of 1"),
        (_lost_model, "its numbers differ from their checksums"),
        (partial(_linked, name=".zattrs"), "is no saved table"),
        (partial(_linked, name=".zmetadata"), "zmetadata is a link; only what lies inside"),
        (_no_metadata, "is truncated or altered"),
        (partial(_odd_attribute, name="range", value="[0, 1, 2]"), r"its range of prefix_matching is '\[0, 1, 2\]'"),
        (partial(_odd_attribute, name="range", value="low"), "a range of the table is truncated or altered"),
        (partial(_odd_attribute, name="unit", value=["nats"]), r"its unit of prefix_matching is \['nats'\]"),
        (shutil.rmtree, "is no saved table"),
    ],
)
def test_damage_is_refused(saved: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(saved)
    with pytest.raises(DamagedFileError, match=message):
        ModelAnalysisTable.load(saved)
