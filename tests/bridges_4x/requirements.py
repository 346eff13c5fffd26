"""Prints what to install for these tests, a line each: what the package depends on, with transformer-lens 4.x.

Reads pyproject.toml with the standard library alone, because it runs before anything is installed.
"""

import re
import tomllib
from pathlib import Path

_TESTED_WITH = {"beartype", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "sentencepiece"}


def requirements() -> list[str]:
    """Of the package, without its pin of transformer-lens, and of its tests."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf8"))["project"]
    own = [entry for entry in project["dependencies"] if _name(entry) != "transformer-lens"]
    tests = [entry for entry in project["optional-dependencies"]["dev"] if _name(entry) in _TESTED_WITH]
    return ["transformer-lens>=4.3,<5", *own, *tests]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    print(*requirements(), sep="\n")
