"""Files and folders appear whole or not at all, and nothing is left lying about."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ih_lens.atomic import (
    _THIS_MACHINE,
    clear_temporaries,
    new_folder,
    temporary_folder,
    to_json_bytes,
    write_bytes,
    writing_into,
)
from ih_lens.errors import StorageError

ROOT = Path(__file__).parents[1]


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


def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path: Path) -> None:
    path, replaced, missed = tmp_path / "table", threading.Event(), []

    def watch() -> None:
        while not replaced.is_set():
            missed.extend([] if path.exists() else [time.monotonic()])

    with new_folder(path):
        pass
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(100):
        with new_folder(path, replace=True):
            pass
    replaced.set()
    watcher.join()
    assert missed == []


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ih_lens.atomic._exchange", lambda *_: False)
    for content in "12":
        with new_folder(tmp_path / "table", replace=True) as folder:
            (folder / content).touch()
    assert [file.name for file in (tmp_path / "table").iterdir()] == ["2"]
    assert [place.name for place in tmp_path.iterdir()] == ["table"]


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


def _killed_while_writing(folder: Path) -> None:
    """Leave what a process leaves that is killed in the middle of a file and of a folder."""
    code = (
        "import os, pathlib, signal, sys; from ih_lens.atomic import new_folder, temporary_folder, write_bytes;"
        "folder = pathlib.Path(sys.argv[1]); os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "part = new_folder(folder / 'table'); (part.__enter__() / 'a').touch();"
        "work = temporary_folder(folder); (work.__enter__() / 'b').touch();"
        "write_bytes(folder / 'page.html', b'content')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT).returncode == -signal.SIGKILL
    assert len(list(folder.glob(".tmp-*"))) == 6


def test_what_the_dead_left_is_cleared_and_what_the_living_write_is_not(tmp_path: Path) -> None:
    _killed_while_writing(tmp_path)
    with new_folder(tmp_path / "table") as living:
        assert not [place for place in tmp_path.glob(".tmp-table-*") if not place.name.startswith(living.name)]
        for place in tmp_path.iterdir():
            os.utime(place, (0, 0))  # as after a jump of the clock
        clear_temporaries(tmp_path)
        assert sorted(place.name for place in tmp_path.iterdir()) == [living.name, f"{living.name}.lock"]
    assert [place.name for place in tmp_path.iterdir()] == ["table"]


def test_who_works_in_a_folder_clears_it(tmp_path: Path) -> None:
    _killed_while_writing(tmp_path)
    with temporary_folder(tmp_path) as living:
        assert sorted(place.name for place in tmp_path.iterdir()) == [living.name, f"{living.name}.lock"]
    assert not list(tmp_path.iterdir())


def test_what_others_called_temporary_stays(tmp_path: Path) -> None:
    _killed_while_writing(tmp_path)
    names = [".tmp-", ".tmp-notes", ".tmp-notes.lock", ".tmp-page.html-mine", "page-abcdef-12345678"]
    for name in names:
        (tmp_path / name).touch()
    clear_temporaries(tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == sorted(names)


def test_a_name_that_goes_on_like_another_is_not_cleared_with_it(tmp_path: Path) -> None:
    _killed_while_writing(tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / ".tmp-table-2-abcdef-12345678").touch()
    clear_temporaries(tmp_path, "table")
    assert (tmp_path / ".tmp-table-2-abcdef-12345678").exists()
    assert not list(tmp_path.glob(f".tmp-table-{_THIS_MACHINE}-*"))


def test_a_writer_whose_lock_is_found_before_it_is_held_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []

    def lock_late(descriptor: int, operation: int) -> None:
        if not found:  # somebody who clears has it in this moment, and removes it only then
            found.extend(tmp_path.glob("*.lock"))
            other = os.open(found[0], os.O_RDWR)
            flock(other, fcntl.LOCK_EX)
            threading.Timer(0.2, lambda: (found[0].unlink(), os.close(other))).start()
        flock(descriptor, operation)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock_late)
    with new_folder(tmp_path / "table") as living:
        assert found
        assert found[0] != living.with_name(f"{living.name}.lock")
        assert living.with_name(f"{living.name}.lock").exists()


def test_another_machine_is_given_a_day(tmp_path: Path) -> None:
    for name in (".tmp-page-abcdef-12345678", ".tmp-page-abcdef-87654321"):
        (tmp_path / name).touch()
        (tmp_path / f"{name}.lock").touch()
    os.utime(tmp_path / ".tmp-page-abcdef-87654321.lock", (0, 0))
    clear_temporaries(tmp_path)
    assert len(list(tmp_path.glob("*12345678*"))) == 2
    assert not list(tmp_path.glob("*87654321*"))


def test_a_table_that_cannot_take_the_place_of_another_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table"
    with new_folder(path) as folder:
        (folder / "old").touch()
    rename = Path.rename

    def fail_at_the_name(self: Path, target: Path) -> Path:
        if target == path and (self / "new").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return rename(self, target)

    monkeypatch.setattr("ih_lens.atomic._exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_at_the_name)
    with pytest.raises(StorageError, match="Input/output error"), new_folder(path, replace=True) as folder:
        (folder / "new").touch()
    assert [place.name for place in tmp_path.rglob("*")] == ["table", "old"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "No space left on device. Make room; what"), (errno.EROFS, "Read-only file system. Make it writ")],
)
def test_a_folder_that_cannot_be_written_is_named(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StorageError, match=f"{tmp_path} cannot be written: {advice}"):
        write_bytes(tmp_path / "page.html", b"")
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/text.txt")
    for error in (elsewhere, ValueError("wrong"), FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "a"))):
        with pytest.raises(type(error)) as caught, writing_into(tmp_path):
            raise error
        assert caught.value is error
