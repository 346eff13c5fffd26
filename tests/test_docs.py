"""The documentation's code runs, its commands exist, and its pages are all in the navigation."""

import re
import shutil
from pathlib import Path

import pytest

import ih_lens as ih
from ih_lens.cli import app
from tests.docs_code import PAGES, ROOT, blocks, check_command, command_lines, pages, run_page
from tests.docs_names import FILES, Prepared

OWN_TESTS = {"docs/clamping.md": "test_clamping_page.py", "docs/extending.md": "test_extending_page.py"}
"""Pages whose code is run by a test that also looks at what it gave."""
PYTHON = [page for page in pages() if blocks(page, "python") and page not in OWN_TESTS]
PROGRAMS = {"pip", "dask", "ray", "git", "cd", "accelerate", "python", "torchrun"}
"""What shell blocks call besides `ih-lens` and `make`."""


@pytest.mark.parametrize("page", PYTHON)
def test_code_runs(page: str, tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, prepared, monkeypatch)


def test_no_special_treatment_is_left_over() -> None:
    assert set(PAGES) <= set(pages())
    for page, test in OWN_TESTS.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf8")


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page, "bash")])
def test_commands_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), flags=re.MULTILINE))
    for block in blocks(page, "bash"):
        for words in command_lines(block.text):
            if words[0] == "ih-lens":
                check_command(words)
            elif words[0] == "make":
                assert words[1] in targets, f"{page}:{block.line}: {' '.join(words)}"
            else:
                assert words[0] in PROGRAMS, f"{page}:{block.line}: {' '.join(words)}"


SCORE_LINES = {
    " ".join(words)
    for page in pages()
    for block in blocks(page, "bash")
    for words in command_lines(block.text)
    if words[:2] == ["ih-lens", "score"]
}


@pytest.mark.parametrize("line", sorted(SCORE_LINES))
def test_score_commands_run(
    line: str,
    tmp_path: Path,
    prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "path/to" in line:
        FILES["path/to/a/folder"](prepared, tmp_path / "path/to/a/folder")
        shutil.copy("path/to/a/folder/tokenizer.json", "path/to/tokenizer.json")
    app(line.split()[1:], prog_name="ih-lens", standalone_mode=False)
    assert "heads" in capsys.readouterr().out


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


def test_every_public_function_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf8")
    for name in vars(ih)["__all__"]:
        value = getattr(ih, name)
        if callable(value) and not name.endswith("Error"):
            assert f"::: ih_lens.{name}\n" in reference, name


def test_every_figure_has_its_place_and_picture() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf8")
    for name in dir(ih.viz):
        if name.startswith(("plot_", "coloured_")) or name in {"attention_heads", "induction_view", "save_figure"}:
            assert f"ih.viz.{name}(" in page, name
    for picture in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (ROOT / "docs" / picture).stat().st_size <= 300_000, picture
