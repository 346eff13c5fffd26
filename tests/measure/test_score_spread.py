"""The spread of every evaluator's scores, against scoring one example at a time."""

import pytest
import torch

import ih_lens as ih
from ih_lens.measure.attention import AttentionReduction, measure_examples
from ih_lens.measure.head_evaluators import EVALUATORS
from tests.helpers import ZOO, random_tokens, tiny_model


@pytest.mark.parametrize("kind", ZOO)
def test_standard_errors_are_those_of_single_examples(kind: str) -> None:
    model = tiny_model(kind)
    scores = ih.score_heads(model, seed=3, length=8, n_examples=5)
    for name, evaluator in EVALUATORS.items():
        fitted = evaluator.configured(length=8, n_examples=5).fitted(model)
        tokens = fitted.tokens(model, seed=3)
        alone = torch.stack([fitted.score(model, tokens[place : place + 1]) for place in range(5)])
        torch.testing.assert_close(scores.to_tensor(name), alone.mean(dim=0), equal_nan=True, rtol=0, atol=1e-9)
        expected = alone.std(dim=0) / 5**0.5
        found = torch.as_tensor(scores.stderr(name).to_numpy())
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=1e-9)
        assert scores.spread is not None
        kept = torch.as_tensor(scores.spread.examples[name].to_numpy())
        torch.testing.assert_close(kept, alone, equal_nan=True, rtol=0, atol=1e-9)


def test_examples_without_a_query_do_not_count() -> None:
    model = tiny_model("attention_only")
    tokens = torch.stack([torch.arange(9) % 4, torch.arange(9), torch.arange(9) % 3, torch.arange(9) % 5])
    reduction = ih.PrefixMatchingEvaluator(bos=None).reduction(model, tokens)
    ((scores, examples),) = measure_examples(model, tokens, [reduction])
    assert examples is not None
    assert examples[1].isnan().all()
    assert not examples[[0, 2, 3]].isnan().any()
    torch.testing.assert_close(scores, examples[[0, 2, 3]].mean(dim=0))


def test_the_text_gives_previous_token_attention_its_own_number_of_examples() -> None:
    model = tiny_model("attention_only")
    scores = ih.score_heads(model, length=8, text=random_tokens(model, n_examples=7))
    assert scores.estimate("previous_token").n_examples == 7
    assert scores.estimate("prefix_matching").n_examples == 10


def test_measures_without_examples_say_why() -> None:
    model = tiny_model("attention_only")
    scores = ih.score_heads(model, length=8, n_examples=1)
    assert "single example" in scores.stderr("prefix_matching").attrs["undefined"]
    assert "weights" in scores.stderr("qk_eigenvalue_trace").attrs["undefined"]
    capped = ih.score_heads(tiny_model("with_mlps", output_logits_soft_cap=30.0), length=8)
    assert "caps its logits" in capped.stderr("copying").attrs["undefined"]
    local = ih.score_heads(tiny_model("local", window_size=1), length=8)
    assert local.stderr("previous_token")[1].isnull().all()
    assert local.stderr("previous_token")[0].notnull().all()


def test_a_measure_that_is_no_mean_over_examples_has_no_spread() -> None:
    model, tokens = tiny_model("attention_only"), torch.arange(9)[None].repeat(3, 1)
    largest = AttentionReduction(lambda attention, _: attention.pattern[:, :, -1, 0], lambda x: x.amax(dim=0))
    mean = AttentionReduction(lambda attention, _: attention.pattern[:, :, -1, 0])
    of_largest, of_mean = measure_examples(model, tokens, [largest, mean])
    assert of_largest.examples is None
    assert of_mean.examples is not None
    torch.testing.assert_close(of_mean.examples.mean(dim=0), of_mean.scores)


def test_examples_are_kept_only_on_request() -> None:
    model = tiny_model("attention_only")
    kept, dropped = (ih.score_heads(model, length=8, keep_examples=keep) for keep in (True, False))
    assert kept.spread is not None
    assert dropped.spread is not None
    assert set(kept.spread.examples) == set(EVALUATORS)
    assert not dropped.spread.examples.data_vars
    assert dropped.stderr("copying").equals(kept.stderr("copying"))
