import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked


def test_every_pair_is_the_score_with_these_indices():
    losses = random_losses(0, keep_all=True)
    scores = ih.in_context_learning_sensitivity(losses, late=[5, 9, 11], early=[1, 2, 9])
    assert scores.dims == ("late", "early")
    for late in (5, 9, 11):
        for early in (1, 2, 9):
            cell = scores.sel(late=late, early=early)
            if early >= late:
                assert np.isnan(cell)
                assert np.isnan(cell.stderr)
            else:
                expected = ih.in_context_learning_score(losses, late=late, early=early)
                assert float(cell) == pytest.approx(float(expected), abs=1e-12)
                assert float(cell.stderr) == pytest.approx(float(expected.stderr), abs=1e-12)


def test_standard_errors_only_where_examples_were_kept():
    errors = ih.in_context_learning_sensitivity(random_losses(0, at=(2, 9)), late=[5, 9], early=[1, 2]).stderr
    assert np.isfinite(errors.sel(late=9, early=2))
    assert int(np.isfinite(errors).sum()) == 1
    means = ih.loss_by_context_index(random_losses(0))
    assert np.isnan(ih.in_context_learning_sensitivity(means, late=[9], early=[2]).stderr).all()
    windowed = random_losses(0, at=(2, 9), window=1)
    assert np.isnan(ih.in_context_learning_sensitivity(windowed, late=[9], early=[2]).stderr).all()


def test_indices_by_default_reach_from_the_first_to_the_last_and_hold_the_usual_pair():
    scores = ih.in_context_learning_sensitivity(random_losses(0, n_indices=511, n_examples=2))
    held = [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 500, 511]
    assert scores.late.to_numpy().tolist() == scores.early.to_numpy().tolist() == held
    assert (scores.attrs["default_late"], scores.attrs["default_early"]) == (500, 50)
    short = ih.in_context_learning_sensitivity(losses_of(np.ones((3, 2)), at=(1, 2)))
    assert short.late.to_numpy().tolist() == [1, 2]
    assert "default_late" not in ih.in_context_learning_sensitivity(losses_of(np.ones((3, 1)), at=(1,))).attrs


def test_leading_dimensions_stay():
    series = stacked(random_losses(0), random_losses(1))
    scores = ih.in_context_learning_sensitivity(series, late=[9], early=[2])
    assert scores.dims == ("snapshot", "late", "early")
    assert scores.tokens_elapsed.to_numpy().tolist() == [0, 1000]
    np.testing.assert_allclose(scores[:, 0, 0], ih.in_context_learning_score(series, late=9, early=2))
    np.testing.assert_allclose(scores.stderr[:, 0, 0], ih.in_context_learning_score(series, late=9, early=2).stderr)
    ablated = ih.in_context_learning_sensitivity(random_ablations(0), late=[9, 11], early=[2])
    assert ablated.dims == ("layer", "head", "late", "early")


def test_wrong_input():
    losses = random_losses(0)
    with pytest.raises(ih.InputError, match=r"late: the losses at context indices \[12\] were not kept"):
        ih.in_context_learning_sensitivity(losses, late=[9, 12])
    with pytest.raises(ih.InputError, match="early: expected ascending"):
        ih.in_context_learning_sensitivity(losses, early=[5, 2])
    with pytest.raises(ih.InputError, match="use loss_by_context_index"):
        ih.in_context_learning_sensitivity(losses.random_token)
