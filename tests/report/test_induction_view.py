"""What the viewer measures is what the measures themselves give, head by head."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer

import ih_lens as ih
from ih_lens.report.text_heads import ATTRIBUTION, PREFIX_MATCHING
from tests.helpers import random_tokens, tiny_model
from tests.models.huggingface_models import byte_level_tokenizer
from tests.viz.test_induction_view import largest_error

KINDS = ["shortformer", "no_norm", "with_mlps", "rotary", "rms_grouped", "local", "smeared"]


def patterns_of(model: HookedTransformer, tokens: Tensor) -> Tensor:
    """As TransformerLens caches them [layer, head, dest, src]."""
    _, cache = model.run_with_cache(tokens)
    return torch.stack([cache["pattern", layer][0] for layer in range(model.cfg.n_layers)])


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_and_attributions_are_those_of_the_measures(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=1, length=40)
    data = ih.induction_view(model, tokens[0], progress=False).data
    patterns, attributions = patterns_of(model, tokens), ih.logit_attribution(model, tokens)[0]
    assert len(data.heads) == model.cfg.n_layers * model.cfg.n_heads
    for head in data.heads:
        assert largest_error(data.pattern(head), patterns[head]) <= 1 + 1e-4
        assert largest_error(data.attribution(head), attributions[head]) <= 1 + 1e-4


def test_models_with_hooks_of_their_own_and_long_texts_are_packed_in_blocks() -> None:
    model = tiny_model("with_mlps", n_ctx=300)
    tokens = random_tokens(model, n_examples=1, length=300)
    fused = ih.induction_view(model, tokens, progress=False).data
    model.blocks[0].hook_mlp_out.add_hook(lambda activation, hook: activation)
    hooked = ih.induction_view(model, tokens, progress=False).data
    wanted = ih.logit_attribution(model, tokens)[0]
    for head in fused.heads:
        assert largest_error(fused.attribution(head), wanted[head]) <= 1 + 1e-4
        assert largest_error(hooked.attribution(head), wanted[head]) <= 1 + 1e-4
        torch.testing.assert_close(fused.pattern(head), hooked.pattern(head), atol=1e-6, rtol=0.01)


def test_chosen_heads_come_in_their_order() -> None:
    model = tiny_model("three_layers")
    tokens = random_tokens(model, n_examples=1, length=20)
    data = ih.induction_view(model, tokens, heads=["L2H1", (0, 3), "2.0", "L2H1"], progress=False).data
    assert data.heads == (ih.HeadIndex(2, 1), ih.HeadIndex(0, 3), ih.HeadIndex(2, 0))
    whole = ih.induction_view(model, tokens, progress=False).data
    for head in data.heads:
        assert torch.equal(data.pattern(head), whole.pattern(head))
        assert torch.equal(data.attribution(head), whole.attribution(head))
        place = whole.heads.index(head)
        assert torch.equal(data.thumbnails[data.heads.index(head)], whole.thumbnails[place])
        for name in whole.scores:
            assert data.scores[name][data.heads.index(head)] == whole.scores[name][place]


def test_scores_of_the_text_are_those_of_the_measures() -> None:
    model = tiny_model("with_mlps")
    tokens = random_tokens(model, n_examples=1, length=60)
    data = ih.induction_view(model, tokens, progress=False).data
    matching = ih.prefix_matching_score(model, tokens)
    added = ih.logit_attribution(model, tokens)[0].sum(-1).mean(-1)
    for place, head in enumerate(data.heads):
        assert data.scores[PREFIX_MATCHING][place] == pytest.approx(float(matching[head]), abs=1e-9)
        assert data.scores[ATTRIBUTION][place] == pytest.approx(float(added[head]), abs=1e-9)


def test_a_text_without_repeats_has_no_prefix_matching() -> None:
    data = ih.induction_view(tiny_model("shortformer"), torch.arange(10), progress=False).data
    assert all(value != value for value in data.scores[PREFIX_MATCHING])


def test_given_scores_come_first() -> None:
    model = tiny_model("shortformer")
    grid = torch.arange(8.0).reshape(2, 4) / 8
    scores = ih.HeadScores.from_tensors({"copying": grid})
    data = ih.induction_view(model, torch.arange(10), heads=["L1H2"], scores=scores, progress=False).data
    assert list(data.scores) == ["copying", PREFIX_MATCHING, ATTRIBUTION]
    assert data.scores["copying"] == (float(grid[1, 2]),)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("with_mlps", {"output_logits_soft_cap": 30.0}, "caps its logits"),
        ("with_mlps", {"d_vocab_out": 12}, "40 input and 12 output tokens"),
        ("rms_grouped", {"use_normalization_before_and_after": True}, "norms after attention"),
    ],
)
def test_models_without_a_direct_path_show_attention_and_the_reason(
    kind: str, changes: dict[str, object], reason: str
) -> None:
    model = tiny_model(kind, **changes)
    tokens = random_tokens(model, n_examples=1, length=20)
    view = ih.induction_view(model, tokens, progress=False)
    assert view.data.attributions is None
    assert reason in view.data.not_attributed
    assert reason in view.to_html()
    assert list(view.data.scores) == [PREFIX_MATCHING]
    for head in view.data.heads:
        assert largest_error(view.data.pattern(head), patterns_of(model, tokens)[head]) <= 1 + 1e-4


def test_a_text_gets_its_start_token_once_and_its_own_words() -> None:
    model = tiny_model("shortformer", d_vocab=304)
    model.tokenizer = byte_level_tokenizer()
    data = ih.induction_view(model, "the cat\n<|endoftext|>é", progress=False).data
    assert data.ids[0] == model.tokenizer.bos_token_id
    assert data.ids.count(data.ids[0]) == 1  # what the text spells is ordinary characters
    assert "".join(data.texts[1:]) == "the cat\n<|endoftext|>\\xc3\\xa9"
    without = ih.induction_view(model, "the cat", bos=None, progress=False).data
    assert "".join(without.texts) == "the cat"


def test_without_a_tokenizer_the_ids_are_the_text() -> None:
    data = ih.induction_view(tiny_model("shortformer"), torch.tensor([[7, 3, 7]]), progress=False).data
    assert data.texts == ("7", "3", "7")


def test_model_random_state_and_mode_are_untouched(tmp_path: Path) -> None:
    model = tiny_model("with_mlps").train()
    state, seed = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    ih.induction_view(model, torch.arange(10), progress=False).save(tmp_path / "view.html")
    assert model.training
    assert torch.equal(seed, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a text", {}, "has no tokenizer"),
        (torch.arange(80) % 40, {}, "80 tokens, and the viewer needs 2 to 64"),
        (torch.arange(1), {}, "1 tokens, and the viewer needs 2 to 64"),
        (torch.zeros(2, 8, dtype=torch.int64), {}, "one text .* got 2"),
        (torch.rand(8), {}, "integer tensor"),
        (torch.arange(36, 44), {}, "outside the vocabulary"),
        (torch.arange(8), {"heads": ["L2H0"]}, "does not exist"),
        (torch.arange(8), {"heads": "L1H0"}, "expected a list of heads"),
        (torch.arange(8), {"heads": []}, "at least one"),
    ],
)
def test_what_cannot_be_shown_is_refused(text: str | Tensor, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ih.InputError, match=message):
        ih.induction_view(tiny_model("shortformer"), text, progress=False, **settings)


@pytest.mark.parametrize("kind", ["with_mlps", "smeared"])
def test_chosen_destinations_alone_are_shown_and_counted(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=1, length=50)
    places = [7, 20, 33, 34]
    data = ih.induction_view(model, tokens, destinations=places, progress=False).data
    whole = ih.induction_view(model, tokens, progress=False).data
    others = [place for place in range(50) if place not in places]
    logits = ih.logit_attribution(model, tokens)[0]
    for number, head in enumerate(data.heads):
        assert torch.equal(data.pattern(head)[places], whole.pattern(head)[places])
        assert torch.equal(data.attribution(head)[places], whole.attribution(head)[places])
        assert not data.pattern(head)[others].any()
        assert not data.attribution(head)[[place for place in others if place < 49]].any()
        added = logits[head.layer, head.head, places].sum(-1).mean()
        assert data.scores[ATTRIBUTION][number] == pytest.approx(float(added), abs=1e-9)
        matched = [
            whole.pattern(head)[place, [j for j in range(1, place + 1) if tokens[0, j - 1] == tokens[0, place]]].sum()
            for place in places
            if tokens[0, place] in tokens[0, :place]
        ]
        assert data.scores[PREFIX_MATCHING][number] == pytest.approx(float(sum(matched) / len(matched)), abs=0.01)
    assert data.attrs["destinations"] == places
    assert "attention from some of them only" in ih.viz.induction_view(data).to_html()
    assert "attention from some of them only" not in ih.viz.induction_view(whole).to_html()


def test_the_last_token_alone_predicts_nothing() -> None:
    data = ih.induction_view(tiny_model("with_mlps"), torch.arange(10), destinations=[9], progress=False).data
    assert all(value != value for value in data.scores[ATTRIBUTION])


def test_other_destinations_are_refused() -> None:
    model = tiny_model("attention_only")
    for wrong in ([], [10], [-1, 3]):
        with pytest.raises(ih.InputError, match="destinations: expected positions from 0 to 9, at least one"):
            ih.induction_view(model, torch.arange(10), destinations=wrong, progress=False)
