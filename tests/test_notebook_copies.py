"""`ih-lens notebooks`: what is copied, and that nobody's changes are lost."""

import doctest
from pathlib import Path

import pytest

from ih_lens import notebooks
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.notebooks import copy_notebooks, notebook_files


def _times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(notebooks)
    assert (done.failed, done.attempted) == (0, 2)


def test_pictures_and_the_script_for_other_models_come_along() -> None:
    files = notebook_files()
    assert {"README.md", "stand_ins.py"} <= set(files)
    for name in files:
        assert not name.endswith(".ipynb") or f"images/{Path(name).stem}.png" in files


def test_what_is_the_same_is_left_alone(tmp_path: Path) -> None:
    list(copy_notebooks(tmp_path))
    before = _times(tmp_path)
    list(copy_notebooks(tmp_path))
    assert _times(tmp_path) == before


def test_changed_files_are_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "clamping.ipynb").write_text("mine")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "clamping.png").write_text("mine too")
    with pytest.raises(InputError, match=r"clamping\.ipynb, images/clamping\.png would be replaced.* --overwrite"):
        list(copy_notebooks(tmp_path))
    assert set(_times(tmp_path)) == {"clamping.ipynb", "images/clamping.png"}
    list(copy_notebooks(tmp_path, overwrite=True))
    assert (tmp_path / "clamping.ipynb").read_bytes() == notebook_files()["clamping.ipynb"].read_bytes()


def test_an_installation_without_notebooks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "_PACKED", tmp_path / "ih_lens" / "demos")
    with pytest.raises(DamagedFileError, match="install ih-lens again"):
        notebook_files()
