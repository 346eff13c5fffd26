"""What every head evaluator must hold to, those to come included."""

import copy
from typing import Any

import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from tests import helpers
from tests.helpers import ZOO
from tests.measure.twins import processed
from tests.oracles.kinds_of_induction import tokenizer_of_words

EVALUATORS = [*ih.EVALUATORS.items(), *ih.INDUCTION_KINDS.items()]
every_evaluator = pytest.mark.parametrize(("name", "evaluator"), EVALUATORS, ids=[name for name, _ in EVALUATORS])


def tiny_model(name: str, kind: str, **changes: Any) -> HookedTransformer:
    """One of the zoo, with words where the evaluator looks for them."""
    model = helpers.tiny_model(kind, **changes)
    if name == "fuzzy_match":
        model.tokenizer = tokenizer_of_words()  # of the zoo's 40 tokens
    return model


@every_evaluator
def test_it_describes_itself(name: str, evaluator) -> None:
    assert evaluator.name == name
    assert evaluator.definition
    low, high = evaluator.range
    assert low < high
    assert hash(evaluator) == hash(copy.deepcopy(evaluator)), "parameters are fixed"


@every_evaluator
@pytest.mark.parametrize("kind", ZOO)
def test_shape_and_range(name: str, evaluator, kind: str) -> None:
    model = tiny_model(name, kind)
    fitted = evaluator.fitted(model)
    scores = fitted.score(model, fitted.tokens(model, seed=0))
    assert scores.shape == (model.cfg.n_layers, model.cfg.n_heads)
    assert scores.dtype == torch.float64
    assert scores.device.type == "cpu"
    low, high = evaluator.range
    defined = scores[~scores.isnan()]
    assert len(defined) > 0
    assert bool(((defined >= low) & (defined <= high)).all())


@every_evaluator
def test_same_seed_same_numbers(name: str, evaluator) -> None:
    model = tiny_model(name, "with_mlps")
    fitted = evaluator.fitted(model)
    first, second, other = (fitted.tokens(model, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(fitted.score(model, first), fitted.score(model, second))


@every_evaluator
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_batch_split_does_not_matter(name: str, evaluator, dtype: torch.dtype) -> None:
    model = tiny_model(name, "with_mlps", dtype=dtype)
    fitted = evaluator.fitted(model)
    tokens = fitted.tokens(model)
    whole = fitted.score(model, tokens)
    for batch_size in (1, 3, 100):
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(fitted.score(model, tokens, batch_size=batch_size), whole, rtol=0, atol=tolerance)


@every_evaluator
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_touched(name: str, evaluator, training: bool) -> None:
    model = tiny_model(name, "rotary").train(training)
    seen = []
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: seen.append(z.requires_grad))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = {key: len(point.fwd_hooks) for key, point in model.hook_dict.items()}
    fitted = evaluator.fitted(model)
    tokens = fitted.tokens(model)
    kept, random_state = tokens.clone(), torch.random.get_rng_state()
    scores = fitted.score(model, tokens)
    assert torch.equal(tokens, kept)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not scores.requires_grad
    assert all(module.training is training for module in model.modules())
    assert {key: len(point.fwd_hooks) for key, point in model.hook_dict.items()} == hooks
    assert seen, "the caller's hooks are run"
    assert not any(seen)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@every_evaluator
def test_half_precision_scores_are_float32(name: str, evaluator) -> None:
    model = tiny_model(name, "with_mlps", dtype=torch.bfloat16)
    fitted = evaluator.fitted(model)
    scores = fitted.score(model, fitted.tokens(model))
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


@every_evaluator
def test_float32_agrees_with_float64(name: str, evaluator) -> None:
    exact = tiny_model(name, "attention_only")
    rounded = copy.deepcopy(exact).to(torch.float32)
    fitted = evaluator.fitted(exact)
    tokens = fitted.tokens(exact)
    torch.testing.assert_close(fitted.score(rounded, tokens).double(), fitted.score(exact, tokens), rtol=0, atol=1e-4)


@every_evaluator
def test_patterns_and_scores_do_not_depend_on_the_processing_of_weights(name: str, evaluator) -> None:
    model = tiny_model(name, "with_mlps")
    fitted = evaluator.fitted(model)
    tokens = fitted.tokens(model)
    changed = processed(model, fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True)
    torch.testing.assert_close(fitted.score(changed, tokens), fitted.score(model, tokens), rtol=0, atol=1e-5)


@every_evaluator
def test_nan_weights_are_refused(name: str, evaluator) -> None:
    model = tiny_model(name, "attention_only")
    fitted = evaluator.fitted(model)
    tokens = fitted.tokens(model)
    model.blocks[0].attn.W_K.data[0, 0, 0] = torch.nan
    with pytest.raises(ih.InputError, match=r"blocks\.0\.attn\.W_K hold NaN"):
        fitted.score(model, tokens)
