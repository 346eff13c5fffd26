"""Nothing in the package unpickles, evaluates or runs what a file holds: read from its own source."""

import ast
from pathlib import Path

import pytest

import ih_lens as ih

PACKAGE = Path(ih.__file__).parent
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"marshal", "shelve", "dill", "cloudpickle", "yaml"}
ONLY_IN_MEMORY = {"parallel.py"}
"""Pickles errors between this library's own processes."""


def _dangers(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES | {"pickle"}]
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {entry.arg: ast.unparse(entry.value) for entry in node.keywords}
        if called in FORBIDDEN | {"os.system", "os.popen"} or called.endswith("read_pickle"):
            found.append(called)
        if called == "torch.load" and keywords.get("weights_only") != "True":
            found.append(called)
        if keywords.get("allow_pickle", "False") != "False" or keywords.get("shell", "False") != "False":
            found.append(called)
        if keywords.get("trust_remote_code", "False") != "False":
            found.append(called)
    return found


def test_nothing_in_the_package_can_execute_data() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        found = _dangers(ast.parse(path.read_text(encoding="utf8")))
        assert found == (["pickle"] if path.name in ONLY_IN_MEMORY else []), path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "torch.load(f)",
        "np.load(f, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(c, shell=True)",
        "AutoModel.from_pretrained(n, trust_remote_code=trusted)",
        "from yaml import load",
    ],
)
def test_dangers_are_seen(code: str) -> None:
    assert _dangers(ast.parse(code))
