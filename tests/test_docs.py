"""The documentation's code runs, and its pages are all in the navigation."""

import re
from pathlib import Path

import ih_lens as ih
from tests.helpers import tiny_model

ROOT = Path(__file__).parents[1]


def _python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf8"), flags=re.DOTALL)


def test_the_evaluator_of_the_guide_works() -> None:
    (code,) = _python_blocks("docs/extending.md")
    namespace: dict = {}
    exec("from dataclasses import dataclass\nfrom ih_lens.data.random_tokens import random_tokens\n", namespace)
    exec("from ih_lens.measure.attention import AttentionReduction\n", namespace)
    exec("from ih_lens.measure.head_evaluators._base import AttentionEvaluator, fitting_length\n", namespace)
    exec(code, namespace)
    model = tiny_model("attention_only")
    scores = ih.score_heads(model, evaluators=[namespace["FirstToken"](length=9)])
    assert scores["first_token"].shape == (2, 4)
    _, cache = model.run_with_cache(ih.random_tokens(model, length=9))
    expected = cache["blocks.1.attn.hook_pattern"][:, :, 1:, 0].mean(dim=(0, 2))
    assert abs(scores.to_tensor("first_token")[1] - expected).max() < 1e-9


def test_code_in_the_readme_names_what_exists() -> None:
    for page in ("README.md", "docs/index.md", "docs/uncertainty.md"):
        names = set(re.findall(r"\bih\.(\w+)", "".join(_python_blocks(page))))
        assert names
        assert names <= set(ih.__all__), f"{page}: {names - set(ih.__all__)}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in navigation


def test_every_public_function_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf8")
    for name in ih.__all__:
        value = getattr(ih, name)
        if callable(value) and not name.endswith("Error"):
            assert f"::: ih_lens.{name}\n" in reference, name
