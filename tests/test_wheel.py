"""What `pip install` of the built wheel gives those who have no clone: every file, every command, the notebooks."""

import email
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ih_lens.cli import app
from ih_lens.notebooks import notebook_files
from ih_lens.version import __version__

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".pyi", ".typed", ".json", ".jsonl", ".txt", ".css", ".js", ".html"}
"""Of what may lie in the package; anything else in a wheel was left there by mistake."""
JUNK = {"site", "dist", "runs", "shared", "__pycache__", ".git", ".venv", ".hypothesis", ".pytest_cache", ".ruff_cache"}
COMMANDS = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
LINES = (
    "tokens python-stdlib --out tokens --vocab-size 270 --max-tokens 2000",
    "train restart-cycle --out runs --n-layers 1 --d-model 16 --n-heads 2 --batch-size 4 --train-tokens 800 "
    "--snapshots every:2 --n-held-out 8",
    "table runs/attention_only_1L --out table.html",
    "score runs/attention_only_1L/snapshots/step_00000004 --length 8 --out scores",
    "series",
)
"""Commands in the order in which they need each other's files."""


def _build(kind: str, source: Path, out: Path) -> Path:
    call = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    built = subprocess.run(call, cwd=source, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel alone is installed; its dependencies are those of the tests."""
    target = tmp_path_factory.mktemp("installed")
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True, timeout=120)
    return target


def _contents(wheel: Path) -> Mapping[str, str]:
    """A hash per file, without the record of them."""
    with zipfile.ZipFile(wheel) as packed:
        return {
            name: hashlib.sha256(packed.read(name)).hexdigest()
            for name in packed.namelist()
            if not name.endswith("/RECORD")
        }


def _call(installed: Path, cwd: Path, *words: str) -> str:
    """What a Python that sees the installed wheel, and not the repository, says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, ""), " ".join(words)
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_the_notebooks(wheel: Path) -> None:
    package = [path for path in (ROOT / "ih_lens").rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert {path.suffix for path in package} <= SUFFIXES
    expected = {str(path.relative_to(ROOT)): path for path in package}
    expected |= {f"ih_lens/demos/{name}": path for name, path in notebook_files().items()}
    packed = {name: found for name, found in _contents(wheel).items() if ".dist-info/" not in name}
    assert packed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in expected.items()}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        folder = f"ih_lens-{__version__}.dist-info"
        metadata = email.message_from_bytes(packed.read(f"{folder}/METADATA"))
        assert packed.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert packed.read(f"{folder}/entry_points.txt").decode().split() == [
            "[console_scripts]",
            "ih-lens",
            "=",
            "ih_lens.cli:main",
        ]
    assert (metadata["Name"], metadata["Version"]) == ("ih-lens", __version__)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("MIT", ">=3.11")
    assert metadata["Author"] in (ROOT / "LICENSE").read_text(encoding="utf8")


def test_the_source_archive_gives_the_same_wheel_and_holds_no_junk(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(_build("sdist", ROOT, tmp_path / "archive")) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
        archive.extractall(tmp_path / "source", filter="data")
    assert not [name for name in names if JUNK & set(name.parts)]
    assert {Path("Makefile"), Path("constraints.txt"), Path("tests/test_wheel.py")} <= set(names)
    again = _build("wheel", tmp_path / "source" / f"ih_lens-{__version__}", tmp_path / "again")
    assert _contents(again) == _contents(wheel)


def test_every_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    program = str(installed / "bin" / "ih-lens")
    where = _call(installed, tmp_path, sys.executable, "-c", "import ih_lens; print(ih_lens.__file__)")
    assert Path(where.strip()) == installed / "ih_lens" / "__init__.py"
    assert _call(installed, tmp_path, sys.executable, program, "--version") == f"ih-lens {__version__}\n"
    for command in COMMANDS:
        shown = _call(installed, tmp_path, sys.executable, program, command, "--help")
        assert f"Example: ih-lens {command}" in " ".join(shown.split())


def test_notebooks_are_copied(installed: Path, tmp_path: Path) -> None:
    program = str(installed / "bin" / "ih-lens")
    said = _call(installed, tmp_path, sys.executable, program, "notebooks", "notebooks")
    assert said.startswith("6 notebooks in notebooks; ")
    copied = {str(path.relative_to(tmp_path / "notebooks")): path for path in (tmp_path / "notebooks").rglob("*.*")}
    assert {name: path.read_bytes() for name, path in copied.items()} == {
        name: path.read_bytes() for name, path in notebook_files().items()
    }


def test_commands_work_from_tokens_to_scores(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ih_lens.cli import main\n"
        "for line in sys.argv[1:]:\n sys.argv = ['ih-lens', *line.split()]\n main()\n"
    )
    said = _call(installed, tmp_path, sys.executable, "-W", "error", "-c", code, *LINES)
    assert "2,000 tokens of a vocabulary of 270 in tokens" in said
    assert "3 snapshots, last loss" in said
    assert (tmp_path / "table.html").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"scores.csv", "scores.json"}
    assert "smeared_keys:" in said
