"""What stands beside the package: the changelog, how to cite it and how to work on it agree with what is there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ih_lens.version import __version__

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), flags=re.MULTILINE)
PATH = re.compile(r"\.?[\w-]+(/[\w.*-]+)*/?(\.[a-z]+)?")
"""A name in code marks that may be one of a file."""


def test_the_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf8")
    newest = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d|unreleased)$", changelog, flags=re.MULTILINE)[0]
    assert newest[0] == CITATION["version"] == __version__
    assert newest[1] == CITATION.get("date-released", "unreleased")


def test_the_citation_names_authors_and_both_papers() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["license"] == "MIT"
    assert f"Copyright (c) 2026 {CITATION['authors'][0]['name']}" in (ROOT / "LICENSE").read_text(encoding="utf8")
    papers = {paper["url"]: paper for paper in CITATION["references"]}
    assert [paper["authors"][0]["family-names"] for paper in papers.values()] == ["Olsson", "Singh"]
    assert [len(paper["authors"]) for paper in papers.values()] == [26, 5]
    assert next(iter(papers)) in (ROOT / "README.md").read_text(encoding="utf8")


@pytest.mark.parametrize("target", TARGETS)
def test_contributing_names_every_target(target: str) -> None:
    assert f"`make {target}" in CONTRIBUTING


def test_contributing_names_only_targets_and_modules_that_exist() -> None:
    assert set(re.findall(r"`make ([a-z-]+)", CONTRIBUTING)) <= set(TARGETS)
    modules = re.findall(r"python -m ([\w.]+)", CONTRIBUTING)
    assert len(modules) >= 5
    assert all(importlib.util.find_spec(module) for module in modules)


def test_contributing_names_only_files_that_exist() -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", CONTRIBUTING)}
    marked = {name for name in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", CONTRIBUTING) if PATH.fullmatch(name)}
    named = links | {
        name for name in marked if "/" in name or Path(name).suffix in {".txt", ".yml", ".toml", ".md", ".cff"}
    }
    assert len(named) > 20
    missing = sorted(name for name in named if not any(ROOT.glob(name.rstrip("/"))))
    assert not missing
