"""The code of docs/extending.md runs, and what it adds to the library does what the page says."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation.replacements import REPLACEMENTS
from tests.docs_code import run_page
from tests.docs_names import Prepared
from tests.helpers import random_tokens, tiny_model

PAGE = "docs/extending.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory, prepared: Prepared) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        yield {**run_page(PAGE, folder, prepared, patch), "folder": folder}


def test_the_evaluator(names: dict[str, Any]) -> None:
    model = tiny_model("attention_only")
    scores = ih.score_heads(model, evaluators=[names["FirstToken"](length=9)])
    assert scores["first_token"].shape == (2, 4)
    _, cache = model.run_with_cache(ih.random_tokens(model, length=9))
    expected = cache["blocks.1.attn.hook_pattern"][:, :, 1:, 0].mean(dim=(0, 2))
    assert abs(scores.to_tensor("first_token")[1] - expected).max() < 1e-9


def test_the_behaviour_looks_at_the_name_that_came_once(names: dict[str, Any]) -> None:
    gpt2, behaviour = names["gpt2"], names["IndirectObject"]()
    made = behaviour.texts(gpt2)
    first = made.texts[0]
    ((destination, sources),) = first.targets.items()
    assert gpt2.tokenizer.decode([first.ids[source] for source in sources]).strip() == "Mary"
    assert gpt2.tokenizer.decode(first.ids[destination + 1 :]).strip() == "Mary"
    ((_, unrelated),) = made.controls[0].targets.items()
    assert unrelated == sources
    attention = []
    for text in made.texts:
        _, cache = gpt2.run_with_cache(torch.tensor([text.ids]))
        ((query, keys),) = text.targets.items()
        attention.append(cache["blocks.5.attn.hook_pattern"][0, 5, query, list(keys)].sum())
    assert len(attention) == 24
    assert names["found"].head("L5H5")["indirect_object"] == pytest.approx(
        torch.stack(attention).mean().item(), abs=1e-5
    )


def test_the_ablation_keeps_values_and_renews_patterns(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABLATIONS, "value_preserving", names["ValuePreserving"]())
    model = tiny_model("with_mlps", n_layers=3)
    tokens = random_tokens(model)
    evals = ih.EvalSet.from_tokens(tokens)
    found = ih.ablate_heads(model, evals, kind="value_preserving", heads=["L0H1", "L1H3"])
    _, cache = model.run_with_cache(tokens)

    def without(layer: int, head: int) -> torch.Tensor:
        def silence(z: torch.Tensor, hook: object) -> None:
            z[:, :, head] = 0

        hooks: list[Any] = [(f"blocks.{layer}.attn.hook_z", silence)]
        for later in range(layer + 1, 3):
            hooks.append((f"blocks.{later}.attn.hook_v", _kept(cache[f"blocks.{later}.attn.hook_v"])))
        losses = model.run_with_hooks(tokens, return_type="loss", loss_per_token=True, fwd_hooks=hooks)
        return losses.mean(dim=0)

    for layer, head in ((0, 1), (1, 3)):
        ours = torch.from_numpy(found.by_context_index.sel(layer=layer, head=head).values)
        torch.testing.assert_close(ours, without(layer, head), atol=1e-9, rtol=0)
    full = ih.ablate_heads(model, evals, kind="full", heads=["L0H1"]).by_context_index.sel(layer=0, head=1)
    assert abs(full - found.by_context_index.sel(layer=0, head=1)).max() > 1e-3


def _kept(clean: torch.Tensor) -> Any:
    def keep(values: torch.Tensor, hook: object) -> torch.Tensor:
        return clean

    return keep


def test_the_replacement_halves(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPLACEMENTS, "half", names["Half"])
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    evals = ih.EvalSet.from_tokens(tokens)
    found = ih.ablate_heads(model, evals, kind="full", heads=["L0H1"], replace="half")

    def halve(z: torch.Tensor, hook: object) -> None:
        z[:, :, 1] /= 2

    hooks: list[Any] = [("blocks.0.attn.hook_z", halve)]
    expected = model.run_with_hooks(tokens, return_type="loss", loss_per_token=True, fwd_hooks=hooks).mean(dim=0)
    ours = torch.from_numpy(found.by_context_index.sel(layer=0, head=1).values)
    torch.testing.assert_close(ours, expected, atol=1e-9, rtol=0)


def test_the_row_is_in_the_table(names: dict[str, Any]) -> None:
    table = names["table"]
    assert table["copying"]["2L"].dims == ("snapshot", "layer", "head")
    assert names["COPYING"].title in (names["folder"] / "table.html").read_text(encoding="utf8")


def test_the_loader_gives_the_same_model(names: dict[str, Any]) -> None:
    for name, weights in names["model"].state_dict().items():
        assert torch.equal(names["same"].state_dict()[name], weights)


def test_nothing_stays_in_the_tables_of_the_library(names: dict[str, Any]) -> None:
    assert "value_preserving" not in ABLATIONS
    assert "half" not in REPLACEMENTS
