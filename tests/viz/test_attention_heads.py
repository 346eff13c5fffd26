"""What is handed to circuitsvis: the right heads in the right order, exact numbers, texts that do nothing."""

import json
import re
import socket
from html import unescape
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

import ih_lens as ih
from ih_lens.viz import LocalHTML, attention_heads
from tests.helpers import random_tokens, tiny_model
from tests.viz.test_coloured_tokens import HOSTILE

TOKENS = ["<s>", " the", "\n", " é", *HOSTILE]


def patterns(*leading: int, n_pos: int = len(TOKENS)) -> Float[Tensor, "*leading dest src"]:
    scores = torch.randn(*leading, n_pos, n_pos, generator=torch.Generator().manual_seed(0)) * 2
    return scores.masked_fill(torch.ones(n_pos, n_pos).triu(1).bool(), -torch.inf).softmax(-1)


def handed(view: LocalHTML) -> dict[str, Any]:
    """The properties in the page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', view.document, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def scores_of(*rows: list[float]) -> xr.DataArray:
    return xr.DataArray(np.array(rows), dims=("layer", "head"), name="prefix_matching")


def test_heads_are_sorted_by_score_and_named() -> None:
    given = patterns(2, 3)
    view = attention_heads(given, TOKENS, scores=scores_of([0.1, 0.9, float("nan")], [0.5, -1.0, 0.7]))
    data = handed(view)
    order = [(0, 1), (1, 2), (1, 0), (0, 0), (1, 1), (0, 2)]
    assert data["attentionHeadNames"] == [f"L{layer}H{head}" for layer, head in order]
    expected = torch.stack([given[place] for place in order])
    np.testing.assert_allclose(data["attention"], expected, atol=5.1e-5)
    assert data["maxValue"] == float(given.max())
    assert data["minValue"] == 0
    assert data["maskUpperTri"] is True
    assert "6 heads, sorted by prefix matching: L0H1 0.9, L1H2 0.7" in view.document
    assert view._repr_html_().startswith("<iframe")


def test_heads_of_single_patterns_are_named_by_the_caller() -> None:
    data = handed(attention_heads(patterns(2), TOKENS, heads=["L5H1", (3, 0)]))
    assert data["attentionHeadNames"] == ["L5H1", "L3H0"]
    np.testing.assert_allclose(data["attention"], patterns(2), atol=5.1e-5)


def test_chosen_heads_of_a_model() -> None:
    data = handed(attention_heads(patterns(2, 3), TOKENS, heads=["1.2", "0.1"]))
    assert data["attentionHeadNames"] == ["L1H2", "L0H1"]
    np.testing.assert_allclose(data["attention"][0], patterns(2, 3)[1, 2], atol=5.1e-5)


def test_data_of_the_viewer() -> None:
    model = tiny_model("attention_only")
    data = ih.induction_view(model, random_tokens(model, 1, 9)[0], progress=False).data
    found = handed(attention_heads(data, heads=["L1H3"]))
    assert found["attentionHeadNames"] == ["L1H3"]
    assert found["tokens"] == list(data.texts)
    np.testing.assert_allclose(found["attention"][0], data.pattern("L1H3"), atol=5.1e-5)


def test_texts_are_visible_and_cannot_leave_the_script() -> None:
    view = attention_heads(patterns(1), TOKENS, heads=["L0H0"], title=HOSTILE[0])
    assert handed(view)["tokens"][:4] == ["<s>", "·the", "↵", "·é"]
    assert [token.replace("·", " ") for token in handed(view)["tokens"][4:]] == HOSTILE
    scripts = re.findall(r"<script[^>]*>", view.document)
    assert scripts == [
        '<script type="application/json" id="data">',
        '<script type="text/plain" id="library">',
        "<script>",
    ]
    inside = re.search(r'srcdoc="([^"]*)"', view._repr_html_())
    assert inside
    assert unescape(inside.group(1)) == view.document


def test_negative_numbers_and_later_sources_are_shown() -> None:
    data = handed(attention_heads(torch.tensor([[[0.5, -2.0], [0.0, 1.0]]]), ["a", "b"], heads=["L0H0"]))
    assert (data["minValue"], data["maxValue"], data["maskUpperTri"]) == (-2, 2, False)


def test_as_many_heads_as_the_browser_bears() -> None:
    tokens = [str(number) for number in range(128)]
    assert len(handed(attention_heads(patterns(20), TOKENS, heads=[f"0.{h}" for h in range(20)]))["attention"]) == 12
    long = patterns(9, n_pos=128)
    view = attention_heads(long, tokens, heads=[f"0.{h}" for h in range(9)])
    assert len(handed(view)["attention"]) == 8
    assert "8 of 9 heads, the first: L0H0, L0H1" in view.document
    with pytest.raises(ih.InputError, match=r"freezes the browser.*max_heads=8.*induction_view"):
        attention_heads(long, tokens, heads=[f"0.{h}" for h in range(9)], max_heads=9)
    with pytest.raises(ih.InputError, match=r"show fewer tokens, or use ih_lens\.induction_view"):
        attention_heads(torch.zeros(1, 363, 363), ["a"] * 363, heads=["0.0"])


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ih.InputError, match="expected the 2 different heads"):
        attention_heads(patterns(2), TOKENS, heads=["L0H0"])
    with pytest.raises(ih.InputError, match="expected the 2 different heads"):
        attention_heads(patterns(2), TOKENS)
    with pytest.raises(ih.InputError, match="text of each token"):
        attention_heads(patterns(1), heads=["L0H0"])
    with pytest.raises(ih.InputError, match="have no L4H0"):
        attention_heads(patterns(2, 3), TOKENS, heads=["L4H0"])
    with pytest.raises(ih.InputError, match="one row and column per token"):
        attention_heads(patterns(1), TOKENS[:-1], heads=["L0H0"])
    with pytest.raises(ih.InputError, match="scores: expected one number per head"):
        attention_heads(patterns(2, 3), TOKENS, scores=scores_of([1.0, 2.0]))
    with pytest.raises(ih.InputError, match="NaN"):
        attention_heads(patterns(1) * torch.nan, TOKENS, heads=["L0H0"])


def test_nothing_is_ever_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    view = attention_heads(patterns(1), TOKENS, heads=["L0H0"])
    assert len(view._repr_html_()) < 700_000, "the script is compressed"
    assert "unpkg" not in view.document
