"""Writes constraints-oldest.txt: every direct dependency at its lower bound, what those need as uv resolves it today.

    python -m tests.oldest    # needs uv (pip install uv) and a package registry

`make test-oldest` installs with that file and runs the tests; `make test` holds the file to the bounds.
"""

import shutil
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints-oldest.txt"
PYTHON = "3.11"
_HEAD = f"""\
# Written by `python -m tests.oldest`, for Python {PYTHON} on Linux x86-64; `make test-oldest` installs with it.
# Direct dependencies stand at the lower bounds of pyproject.toml, all others as resolved when this was written.
"""


def requirements() -> list[Requirement]:
    """The direct dependencies of pyproject.toml, those of all extras too, each text once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for text in sorted({text for listed in lists for text in listed})]


def lower_bound(requirement: Requirement) -> str:
    """The version after `>=`; every requirement has exactly one."""
    (bound,) = [clause.version for clause in requirement.specifier if clause.operator == ">="]
    return bound


def pinned() -> dict[str, str]:
    """Each package of constraints-oldest.txt and its version."""
    lines = CONSTRAINTS.read_text(encoding="utf8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def main() -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("tests.oldest: needs uv; run: pip install uv")
    exact = [f"{one.name}[{','.join(one.extras)}]=={lower_bound(one)}" for one in requirements()]
    options = ["--python-version", PYTHON, "--quiet", "--no-header", "--no-annotate"]
    resolved = subprocess.run(
        [uv, "pip", "compile", "-", *options],
        input="\n".join(exact),
        stdout=subprocess.PIPE,
        encoding="utf8",
        check=True,
    )
    CONSTRAINTS.write_text(_HEAD + resolved.stdout, encoding="utf8")


if __name__ == "__main__":
    main()
