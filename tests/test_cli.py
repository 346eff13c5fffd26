"""The commands as a user types them, in one process of its own each."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ih_lens as ih
from ih_lens import cli
from ih_lens.data.sources import STANDARD_LIBRARY
from tests.docs_code import check_command


def _call(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from ih_lens.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *line.split()], cwd=cwd, capture_output=True, text=True, timeout=240
    )


def _help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["ih-lens", *words, "--help"])
    cli.main()
    return capsys.readouterr().out


def test_every_command_explains_itself_with_an_example(monkeypatch, capsys) -> None:
    overview = _help(monkeypatch, capsys)
    commands = [
        command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback
    ]
    assert set(commands) == {"demo", "clamp-demo", "notebooks", "series", "tokens", "train", "table", "score", "check"}
    for command in commands:
        assert command in overview
        assert f"Example: ih-lens {command}" in " ".join(_help(monkeypatch, capsys, command).split())


def test_examples_of_the_help_are_commands_that_exist() -> None:
    texts = [command.callback.__doc__ or "" for command in cli.app.registered_commands if command.callback]
    lines = [line for text in texts for line in re.findall(r"Example: `([^`]+)`", text)]
    assert len(lines) >= len(texts)
    for line in lines:
        check_command(line.split())
    assert f"ih-lens tokens {STANDARD_LIBRARY} " in " ".join(lines)


def test_the_version_is_said(tmp_path: Path) -> None:
    assert _call("--version", tmp_path).stdout == f"ih-lens {ih.__version__}\n"


def test_without_a_command_there_is_help_alone(tmp_path: Path) -> None:
    helped = _call("", tmp_path)
    assert (helped.returncode, helped.stderr) == (2, "")
    assert "clamp-demo" in helped.stdout


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_command_that_is_stopped_says_so(number: signal.Signals, status: int, said: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli, "_say", lambda text: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["ih-lens", "series"])
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before[1])
    assert ended.value.code == status
    assert capsys.readouterr().err == f"ih-lens: {said}; what was finished is kept, and the same command continues\n"
    assert signal.getsignal(signal.SIGTERM) is before[0]


def test_from_text_to_the_table(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the cat\n" * 400)
    made = _call("tokens text.txt --out tokens --vocab-size 270", tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert "tokens of a vocabulary of 270 in tokens" in made.stdout
    sizes = "--n-layers 1,2 --d-model 16 --n-heads 2 --n-ctx 16 --batch-size 4 --train-tokens 512 --n-held-out 8"
    trained = _call(f"train tokens --out runs {sizes} --snapshots every:4", tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert "attention_only_2L: 3 snapshots" in trained.stdout
    runs = "runs/attention_only_1L runs/attention_only_2L"
    drawn = _call(f"table {runs} --out table.html --data table.zarr --workers 2", tmp_path)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "2 layers (seed 0)" in drawn.stdout
    assert (tmp_path / "table.html").stat().st_size > 10_000
    assert ih.ModelAnalysisTable.load(tmp_path / "table.zarr").models == ["attention_only_1L", "attention_only_2L"]


def test_series_are_listed(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["ih-lens", "series"])
    cli.main()
    listed = capsys.readouterr().out
    assert all(name in listed for name in ih.SERIES)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "the same command continues"),
        (PermissionError(13, "Permission denied", "/runs"), 2, "Permission denied: /runs"),
        (OSError(28, "No space left on device"), 2, "No space left on device. Check the path"),
        (ZeroDivisionError("by zero"), 70, "unexpected ZeroDivisionError: by zero"),
    ],
)
def test_no_traceback_reaches_the_user(monkeypatch, capsys, error, status: int, message: str) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err
    assert stop.value.code == status
    assert message in said
    assert "Traceback" not in said
