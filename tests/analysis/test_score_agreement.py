import numpy as np
import pytest
import torch
from scipy import stats

import ih_lens as ih
from ih_lens.results import stack_snapshots


def scores_of(n_layers: int, n_heads: int, seed: int) -> ih.HeadScores:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n_layers, n_heads, generator=generator, dtype=torch.float64)
    second = first**3 + torch.randn(n_layers, n_heads, generator=generator, dtype=torch.float64)
    return ih.HeadScores.from_tensors({"copying": first, "eigenvalues": second})


def test_correlations_are_the_usual_ones() -> None:
    scores = scores_of(3, 8, seed=0)
    agreement = ih.score_agreement(scores, "copying", "eigenvalues")
    x, y = (scores[name].to_numpy().ravel() for name in ("copying", "eigenvalues"))
    assert agreement.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert agreement.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert (agreement.x, agreement.y, agreement.n_heads, agreement.n_undefined) == ("copying", "eigenvalues", 24, 0)


def test_undefined_heads_are_left_out_and_counted() -> None:
    scores = scores_of(3, 8, seed=0)
    known = scores.dataset.isel(layer=[1, 2])
    scores["eigenvalues"][0] = np.nan
    scores["copying"][0, 0] = np.nan
    agreement = ih.score_agreement(scores, "copying", "eigenvalues")
    expected = ih.score_agreement(ih.HeadScores(known), "copying", "eigenvalues")
    assert agreement.pearson == expected.pearson
    assert (agreement.n_heads, agreement.n_undefined) == (16, 8)


def test_models_together() -> None:
    models = [scores_of(2, 4, seed=1), scores_of(3, 8, seed=2)]
    x, y = (np.concatenate([model[name].to_numpy().ravel() for model in models]) for name in ("copying", "eigenvalues"))
    agreement = ih.score_agreement(models, "copying", "eigenvalues")
    assert agreement.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert agreement.n_heads == 32


def test_the_last_snapshot_counts() -> None:
    first, last = scores_of(2, 4, seed=1), scores_of(2, 4, seed=2)
    stacked = stack_snapshots([first, last], [0, 1], [0, 10])
    expected = ih.score_agreement(last, "copying", "eigenvalues")
    assert ih.score_agreement(stacked, "copying", "eigenvalues") == expected


def test_what_has_no_correlation_is_nan() -> None:
    flat = ih.HeadScores.from_tensors({"a": torch.ones(1, 4), "b": torch.arange(4.0)[None]})
    agreement = ih.score_agreement(flat, "a", "b")
    assert np.isnan(agreement.pearson)
    assert np.isnan(agreement.spearman)
    undefined = ih.HeadScores.from_tensors({"a": torch.full((1, 4), torch.nan), "b": torch.arange(4.0)[None]})
    agreement = ih.score_agreement(undefined, "a", "b")
    assert (agreement.n_heads, agreement.n_undefined) == (0, 4)
    assert np.isnan(agreement.pearson)


def test_bad_input_is_explained() -> None:
    with pytest.raises(ih.InputError, match="no measure 'trace' in these scores"):
        ih.score_agreement(scores_of(1, 2, seed=0), "copying", "trace")
    with pytest.raises(ih.InputError, match="at least one model, got none"):
        ih.score_agreement([], "copying", "eigenvalues")
