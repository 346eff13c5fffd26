import dataclasses
import re

import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from tests.helpers import tiny_model
from tests.oracles.hand_built import INDUCTION, PREVIOUS_TOKEN, START_TOKEN, induction_model


def tokens_of(model: HookedTransformer) -> torch.Tensor:
    return ih.repeated_random_tokens(model, length=12, repeats=4, n_examples=3)


@pytest.fixture(scope="module")
def explanation() -> ih.HeadExplanation:
    model = induction_model()
    return ih.explain_head(model, (1, INDUCTION), tokens_of(model), n_controls=2)


def redundant_model() -> HookedTransformer:
    """Two previous-token heads, each writing half of what the induction head reads: one is sharp enough."""
    model = induction_model()
    attention = model.blocks[0].attn
    for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"):
        parameter = getattr(attention, name).data
        parameter[START_TOKEN] = parameter[PREVIOUS_TOKEN]
    attention.W_O.data[[PREVIOUS_TOKEN, START_TOKEN]] *= 0.5
    return model


def test_heads_that_stand_in_for_each_other_are_named_together() -> None:
    model = redundant_model()
    told = ih.explain_head(model, (1, INDUCTION), tokens_of(model))
    single = told.strongest("k", 2)
    assert single["lost"].to_numpy() == pytest.approx(0.0, abs=1e-6)
    assert told.together("k")["lost"].to_numpy() == pytest.approx(0.93, abs=0.01)
    first = told.lines()[0]
    assert (
        "what all earlier heads took from the previous token carries 93 ± " in first
        or "all earlier heads carries" in first
    )
    assert first.endswith("carries 0 ± 0 % by itself.")
    shares = told.to_dataframe().query("kind == 'K-composition'").set_index("source")["score_share"]
    assert shares[f"L0H{PREVIOUS_TOKEN}"] == pytest.approx(shares[f"L0H{START_TOKEN}"])
    assert shares["all earlier heads"] == pytest.approx(2 * shares[f"L0H{PREVIOUS_TOKEN}"])


def test_all_of_it_is_there(explanation: ih.HeadExplanation) -> None:
    assert explanation.head == ih.HeadIndex(1, INDUCTION)
    assert explanation.prefix_matching == pytest.approx(1.0)
    assert explanation.attrs["measure"] == "explain_head"
    assert explanation.attrs["ln_scale"] == "recomputed"
    assert list(explanation.strongest("v", 2).columns) == list(explanation.partners.columns)
    table = explanation.to_dataframe()
    assert set(table["source"]) == {
        *(f"L0H{head}" for head in range(4)),
        "all earlier heads",
        "previous token, all heads",
    }
    exact = ih.match_shares(explanation.terms).set_index(["side", "term"])["share"]
    for kind, side in (("K-composition", "k"), ("Q-composition", "q"), ("V-composition", "v")):
        of_kind = table[table["kind"] == kind].set_index("source")["score_share"]
        assert of_kind["L0H2"] == exact[(side, "L0H2")]
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.head = ih.HeadIndex(0, 0)  # type: ignore[misc]


def test_the_page_says_what_the_text_says_and_needs_no_network(explanation: ih.HeadExplanation) -> None:
    html = explanation.to_html()
    assert explanation._repr_html_() == html
    assert not re.search(r"https?://|<script|<link", html)
    assert html.count("<li>") == len(explanation.lines()) == len(repr(explanation).splitlines())
    best = explanation.strongest("k", 1).iloc[0]
    assert f"<td>{best['lost']:.3f}</td>" in html


def test_weak_heads_are_said_to_have_no_single_source() -> None:
    model = tiny_model("with_mlps", n_ctx=104)
    told = ih.explain_head(model, "L1H1", ih.repeated_random_tokens(model, length=8, repeats=3), n_partners=1)
    assert told.prefix_matching < 0.3
    assert re.match(r"L1H1: (no match to explain|no earlier head carries|[KQ]-composition with)", str(told))


def test_models_whose_logits_are_no_sums_have_no_copied_logit() -> None:
    model = tiny_model("with_mlps", output_logits_soft_cap=30.0)
    told = ih.explain_head(model, "L1H1", n_examples=3)
    assert told.partners.query("kind == 'V-composition'")["lost"].isna().all()
    assert "undefined" in told.attrs
    figure = ih.viz.plot_match_terms(told.terms)
    assert len(figure.data) == 2
