import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.twins import patterns, processed, source_logits


def slow_score(model, tokens, *, n_start: int = 0, destination: bool = False) -> torch.Tensor:
    """The definition, head by head and token by token, with all logits of the vocabulary."""
    every_pattern, every_logit = patterns(model, tokens), source_logits(model, tokens)
    n_examples, n_layers, n_heads, n_pos = every_pattern.shape[:4]
    scores = torch.zeros(n_examples, n_layers, n_heads, dtype=torch.float64)
    for e, layer, head in torch.cartesian_prod(*map(torch.arange, (n_examples, n_layers, n_heads))).tolist():
        ids, pattern, logits = tokens[e].tolist(), every_pattern[e, layer, head], every_logit[e, layer, head]
        attended = everything = torch.zeros((), dtype=torch.float64)
        for i in range(n_pos):
            sources = range(n_start, i + 1)
            summed = sum((pattern[i, j] * logits[j] for j in sources), torch.zeros_like(logits[0]))
            for j in sources:
                raised = (summed if destination else logits[j]).relu()
                attended = attended + pattern[i, j] * raised[ids[j]]
                everything = everything + sum(pattern[i, j] * raised[t] for t in set(ids[n_start:]))
        scores[e, layer, head] = 4 * attended / (attended + everything) - 1
    return scores.mean(dim=0)


@pytest.mark.parametrize("kind", ZOO)
def test_agrees_with_the_definition_on_any_model(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=2, length=9)  # with repeats: each distinct token counts once
    torch.testing.assert_close(ih.copying_score(model, tokens), slow_score(model, tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("has_bos", [False, True])
@pytest.mark.parametrize("rectified", ["source", "destination"])
def test_variants_agree_with_the_definition(has_bos: bool, rectified: str) -> None:
    model = tiny_model("with_mlps")
    tokens = ih.random_tokens(model, length=8, n_examples=2, bos=0)
    score = ih.copying_score(model, tokens, has_bos=has_bos, rectified=rectified)
    slow = slow_score(model, tokens, n_start=int(has_bos), destination=rectified == "destination")
    torch.testing.assert_close(score, slow, rtol=0, atol=1e-9)


def test_the_variants_differ() -> None:
    model = tiny_model("with_mlps")
    tokens = ih.random_tokens(model, length=8, bos=0)
    scores = [
        ih.copying_score(model, tokens, has_bos=has_bos, rectified=rectified)
        for has_bos in (False, True)
        for rectified in ("source", "destination")
    ]
    assert len({float(score[0, 0]) for score in scores}) == 4


@pytest.mark.parametrize("kind", ["attention_only", "with_mlps", "rotary", "rms_grouped", "parallel", "alibi"])
def test_the_same_however_the_weights_were_processed(kind: str) -> None:
    model = tiny_model(kind)
    tokens = ih.random_tokens(model, length=20, n_examples=3)
    expected = ih.copying_score(model, tokens)
    centres = {"center_writing_weights": True} if kind != "rms_grouped" else {}
    for options in (
        {"fold_value_biases": True},
        {"center_unembed": True},
        {"fold_ln": True},
        {"fold_ln": True, "center_unembed": True, "fold_value_biases": True, **centres},
    ):
        score = ih.copying_score(processed(model, **options), tokens)
        torch.testing.assert_close(score, expected, rtol=0, atol=1e-5)


def test_a_head_that_raises_nothing_in_one_example_is_nan() -> None:
    model = tiny_model("attention_only")
    model.blocks[0].attn.W_V.data[2] = 0.0  # only its bias is left, and that does not count
    model.blocks[1].attn.W_O.data[1] = 0.0
    scores = ih.copying_score(model, ih.random_tokens(model, length=10))
    undefined = torch.zeros(2, 4, dtype=torch.bool)
    undefined[0, 2] = undefined[1, 1] = True
    assert torch.equal(scores.isnan(), undefined)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_rounding_leaves_of_nothing_is_not_a_score(dtype: torch.dtype) -> None:
    model = tiny_model("attention_only", dtype=dtype)
    # every column of W_U reads this direction alike, so that it changes no centred logit
    model.unembed.W_U.data[0] = 1.7
    model.ln_final.w.data.fill_(1.0)
    model.blocks[0].attn.W_O.data[0] = 0.0
    model.blocks[0].attn.W_O.data[0, :, 0] = 1.3
    model.unembed.W_U.data[1:] -= model.unembed.W_U.data[1:].mean(dim=0)
    scores = ih.copying_score(model, ih.random_tokens(model, length=10))
    assert scores[0, 0].isnan()
    assert not scores[0, 1:].isnan().any()


def test_other_output_vocabularies_give_nan() -> None:
    model = tiny_model("attention_only", d_vocab_out=12)
    assert ih.copying_score(model, ih.random_tokens(model, length=10)).isnan().all()


def test_models_without_a_direct_path_are_refused() -> None:
    model = tiny_model("with_mlps", output_logits_soft_cap=30.0)
    with pytest.raises(ih.CapabilityError, match="copying splits logits into a sum over heads"):
        ih.copying_score(model, random_tokens(model))


def test_bad_input_is_explained() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="rectified: expected one of source, destination"):
        ih.copying_score(model, random_tokens(model), rectified="both")
    with pytest.raises(ih.InputError, match="has_bos=True"):
        ih.copying_score(model, torch.tensor([[1, 2, 1]]), has_bos=True)


def test_half_precision_is_scored_in_float32() -> None:
    tokens = ih.random_tokens(tiny_model("with_mlps"))
    half = ih.copying_score(tiny_model("with_mlps", dtype=torch.bfloat16), tokens)
    assert half.dtype == torch.float32
    full = ih.copying_score(tiny_model("with_mlps", dtype=torch.float32), tokens)
    torch.testing.assert_close(half, full, rtol=0, atol=0.05)


def test_the_evaluator_says_what_it_rectified() -> None:
    model = tiny_model("attention_only")
    attributes = ih.score_heads(model, evaluators=[ih.CopyingEvaluator(rectified="destination")])["copying"].attrs
    assert attributes["definition"].endswith("the sum over sources rectified")
    assert attributes["rectified"] == "destination"
