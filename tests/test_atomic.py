"""Files and folders appear whole or not at all, and nothing is left lying about."""

import os
from pathlib import Path

import pytest

from ih_lens.atomic import clear_temporaries, new_folder, temporary_folder, to_json_bytes, write_bytes


def _interrupted(*places: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "page.html"
    write_bytes(path, b"old")
    monkeypatch.setattr("os.replace", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with new_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="not empty"), new_folder(path) as folder:
        (folder / "a").write_text("2")
    assert (path / "a").read_text() == "1"
    with new_folder(path, replace=True) as folder:
        (folder / "b").write_text("3")
    assert [file.name for file in path.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "table"):
        _interrupted()
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan() -> None:
    assert to_json_bytes({"a": 1}) == b'{\n "a": 1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json_bytes({"a": float("nan")})


def test_a_temporary_folder_is_gone_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path / "new") as folder:
        _interrupted((folder / "a").touch())
    assert list((tmp_path / "new").iterdir()) == []


def test_what_was_left_long_ago_is_cleared(tmp_path: Path) -> None:
    for name in (".tmp-old", ".tmp-new", "kept"):
        (tmp_path / name).touch()
    for name in (".tmp-old", "kept"):
        os.utime(tmp_path / name, (0, 0))
    clear_temporaries(tmp_path, hours=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".tmp-new", "kept"]
    clear_temporaries(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
