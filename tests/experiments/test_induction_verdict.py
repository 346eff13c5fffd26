import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.measure.period_scores import drawn_periods
from tests.helpers import ZOO, tiny_model


def test_scores_by_period_are_those_of_prefix_matching() -> None:
    model = tiny_model("with_mlps")
    found = ih.prefix_matching_by_period(model, [5, 9, 12], n_examples=4, seed=2)
    assert found.value.dims == ("period", "layer", "head")
    for period in (5, 9, 12):
        tokens = ih.scattered_copies(model, length=period, n_copies=3, n_between=2 * period, n_examples=4, seed=2)
        expected = torch.stack([ih.prefix_matching_score(model, example[None]) for example in tokens]).numpy()
        np.testing.assert_allclose(found.value.sel(period=period), expected.mean(axis=0), atol=1e-12)
        error = expected.std(axis=0, ddof=1) / 2
        np.testing.assert_allclose(found.stderr.sel(period=period), error, atol=1e-12)
    repeated = ih.prefix_matching_by_period(model, [9], scattered=False, n_examples=4)
    tokens = ih.repeated_random_tokens(model, length=9, repeats=3, n_examples=4)
    np.testing.assert_allclose(repeated.value[0], ih.prefix_matching_score(model, tokens), atol=1e-12)


def test_periods_are_drawn_from_all_that_fit() -> None:
    model = tiny_model("attention_only", n_ctx=512, d_vocab=100)
    drawn = [drawn_periods(model, seed=seed) for seed in range(200)]
    assert all(len(set(periods)) == 4 and list(periods) == sorted(periods) for periods in drawn)
    assert set().union(*drawn) == set(range(5, 33)), "all lengths occur"
    small = tiny_model("attention_only", n_ctx=36)
    assert drawn_periods(small, n_periods=9) == (5, 6, 7, 8, 9)
    with pytest.raises(ih.InputError, match="27 places and 40 tokens to draw from have room for periods up to 6"):
        drawn_periods(tiny_model("attention_only", n_ctx=27))


def test_wrong_periods_are_explained() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="expected at least 3 different lengths"):
        ih.induction_verdict(model, [5, 6, 6])
    with pytest.raises(ih.InputError, match="expected different lengths"):
        ih.prefix_matching_by_period(model, [5, 5])
    with pytest.raises(ih.InputError, match="do not fit the model's context"):
        ih.induction_verdict(model, [5, 6, 60])


def test_random_weights_are_no_induction_model() -> None:
    verdict = ih.induction_verdict(tiny_model("with_mlps"))
    assert not verdict.is_induction_model
    assert str(verdict).startswith("no induction model: no head matches prefixes at random distances")


@pytest.mark.parametrize("period", [8])
def test_a_model_trained_on_one_period_is_no_induction_model(period: int, tmp_path) -> None:
    """Training finds the distance, not induction: the paper's score on that period alone would be deceived."""
    task = ih.RepeatedPeriod(n_symbols=32, min_period=period, max_period=period, length=48)
    cfg = ih.attention_only(1, d_model=64, n_heads=2, d_vocab=32, n_ctx=48)
    config = ih.TrainConfig(n_steps=500, batch_size=32, lr=5e-3, snapshots=ih.every(500), n_held_out=16)
    model = ih.train(cfg, task, config, out=tmp_path, progress=False).snapshots[-1].load()
    tokens = ih.repeated_random_tokens(model, length=period, repeats=4, bos=None)
    assert ih.prefix_matching_score(model, tokens).max() > 0.8
    verdict = ih.induction_verdict(model)
    assert not verdict.is_induction_model
    assert verdict.positional_heads
    assert f"(period {period}" in str(verdict) or f"(period {2 * period}" in str(verdict)


@pytest.mark.parametrize("kind", ZOO)
def test_every_kind_of_model_is_judged(kind: str) -> None:
    model = tiny_model(kind)
    verdict = ih.induction_verdict(model, n_examples=3)
    assert verdict.kind.shape == (model.cfg.n_layers, model.cfg.n_heads)
    assert set(verdict.kind.values.ravel().tolist()) <= {"induction", "positional", "unclear", "other"}
    assert len(verdict.to_dataframe()) == model.cfg.n_layers * model.cfg.n_heads
    assert verdict.periods == list(drawn_periods(model))
    if kind == "local":  # layer 1 sees 8 positions, and no target is so near at the longest period
        assert verdict.minimum[1].isnull().all()
        assert (verdict.kind[1] != "induction").all()
