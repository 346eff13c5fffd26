"""The direction of dependencies, read from the imports: design decisions that would otherwise rot quietly."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import ih_lens

PACKAGE = Path(ih_lens.__file__).parent
ROOT = Path(__file__).parents[1]
WRITTEN = ("ih_lens", "tests", "demos", "benchmarks")
BASE = {"types", "errors", "validate", "atomic", "progress", "parallel", "reading", "version"}
FACTORIES = {
    f"torch.{name}"
    for name in (
        *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
        *("tensor", "tril_indices", "triu_indices", "zeros"),
    )
}
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
    "cli_exit": BASE,
    "cli": BASE
    | {
        "cli_exit",
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

IN_EVERY_TRANSFORMER_LENS = {
    "transformer_lens.cache.key_value_cache_entry",
    "transformer_lens.hook_points",
    "transformer_lens.model_bridge",
    "transformer_lens.utilities.activation_functions",
    "transformer_lens.utilities.architectures",
    "transformer_lens.utilities.quantization",
}
"""Modules that 4.x still has; tests/bridges_4x imports every name that is taken from them."""


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


def _python_files() -> list[Path]:
    """Those of the repository's own folders; what tools leave behind in hidden ones is not its code."""
    return sorted(path for folder in WRITTEN for path in (ROOT / folder).rglob("*.py"))


def test_modules_stay_small() -> None:
    n_lines = {path: len(path.read_text(encoding="utf8").splitlines()) for path in _python_files()}
    assert {str(path): n for path, n in n_lines.items() if n > 400} == {}
    assert median(n for path, n in n_lines.items() if path.is_relative_to(ROOT / "ih_lens")) <= 160


def test_functions_stay_short() -> None:
    too_long: list[str] = []
    for path in _python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or 0) - node.lineno + 1
                documentation = ast.get_docstring(node, clean=False)
                n_documented = 0 if documentation is None else documentation.count("\n") + 1
                if n_lines > 80 or n_lines - n_documented > 60:
                    too_long.append(f"{path}:{node.lineno} {node.name}: {n_lines} lines, {n_documented} of them prose")
    assert too_long == []


def test_what_transformer_lens_4_removed_is_imported_in_one_place() -> None:
    for path, _ in _modules():
        imported = {name for name in _imports(path) if name.split(".")[0] == "transformer_lens"}
        assert path.name == "hooked_transformer.py" or imported <= IN_EVERY_TRANSFORMER_LENS, path


def test_new_tensors_name_their_device() -> None:
    """Or they would lie where the caller's `torch.set_default_device` says, apart from what they are used with."""
    unplaced: list[str] = []
    for path, _ in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in FACTORIES:
                is_placed = any(keyword.arg in ("device", None) for keyword in node.keywords)
                unplaced += [] if is_placed else [f"{path}:{node.lineno} {ast.unparse(node.func)}"]
    assert unplaced == []
