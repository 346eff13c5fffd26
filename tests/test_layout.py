"""The direction of dependencies, read from the imports: design decisions that would otherwise rot quietly."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ih_lens

PACKAGE = Path(ih_lens.__file__).parent
BASE = {"types", "errors", "validate", "atomic", "progress", "parallel", "reading", "version"}
SPREAD = {"statistics", "estimates", "head_spread"}
ALLOWED = {
    "types": {"errors"},
    "errors": set(),
    "validate": {"types", "errors"},
    "atomic": {"errors"},
    "reading": {"errors"},
    "version": set(),
    "notebooks": {"atomic", "errors"},
    "progress": set(),
    "parallel": {"atomic", "errors"},
    "statistics": {"errors", "validate"},
    "estimates": {"errors", "validate", "statistics"},
    "head_spread": {"estimates", "statistics"},
    "results": BASE | SPREAD,
    "models": BASE,
    "data": BASE | {"models"},
    "clamping": BASE | {"models", "data"},
    "training": BASE | {"models", "data", "clamping"},
    "measure": BASE | SPREAD | {"results", "models", "data"},
    "analysis": BASE | SPREAD | {"results"},
    "viz": BASE | SPREAD | {"results", "analysis"},
    "report": BASE | SPREAD | {"results", "models", "data", "measure", "analysis", "viz"},
    "experiments": BASE | SPREAD | {"results", "models", "data", "clamping", "training", "measure", "analysis"},
    "reference_check": BASE | SPREAD | {"results", "models", "data", "measure", "analysis"},
    "demo": BASE | {"results", "models", "data", "training", "measure", "analysis", "viz", "report"},
    "clamp_demo": BASE
    | {"results", "models", "data", "clamping", "training", "measure", "analysis", "experiments", "viz", "report"},
    "cli_options": set(),
    "cli": BASE
    | {
        "cli_options",
        "notebooks",
        "reference_check",
        "results",
        "models",
        "data",
        "training",
        "measure",
        "analysis",
        "viz",
        "report",
        "demo",
        "clamp_demo",
    },
}


def _modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            yield path, part


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(("path", "part"), list(_modules()), ids=lambda value: getattr(value, "stem", None))
def test_imports_follow_the_direction_of_the_design(path: Path, part: str) -> None:
    own = {name.split(".")[1] for name in _imports(path) if name.startswith("ih_lens.")}
    assert own - {part} <= ALLOWED[part], f"{path} reaches up to {own - {part} - ALLOWED[part]}"


@pytest.mark.parametrize("part", ["analysis", "viz"])
def test_results_are_analysed_and_drawn_without_models(part: str) -> None:
    for path, where in _modules():
        if where == part:
            assert not any(name.split(".")[0] in {"transformer_lens", "transformers"} for name in _imports(path))


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for name in ih_lens.__all__:
        assert getattr(ih_lens, name).__doc__, name


def test_modules_stay_small() -> None:
    for path, _ in _modules():
        assert len(path.read_text(encoding="utf8").splitlines()) <= 400, path
