import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked


def test_loss_curve_is_the_mean_of_random_tokens():
    curve = ih.loss_curve(stacked(random_losses(0), random_losses(1)))
    each = random_losses(1).random_token.to_numpy()
    assert curve.dims == ("snapshot",)
    assert float(curve[1]) == pytest.approx(each.mean())
    assert float(curve.stderr[1]) == pytest.approx(each.std(ddof=1) / np.sqrt(7))
    assert np.isnan(ih.loss_curve(random_losses(0, n_examples=1)).stderr)


def test_loss_by_context_index_is_labelled_by_the_predicted_token():
    full = np.tile(np.arange(11.0), (3, 1))
    means = ih.loss_by_context_index(losses_of(full))
    assert float(means.sel(context_index=1)) == 0.0
    assert float(means.sel(context_index=11)) == 10.0
    assert means.attrs["unit"] == "nats"
    assert ih.loss_by_context_index(random_ablations(0)).dims == ("layer", "head", "context_index")


def test_derivative_of_a_line_in_the_logarithm_is_its_slope():
    full = np.tile(5 - 0.7 * np.log(np.arange(1, 12)), (3, 1))
    slopes = ih.loss_derivative(losses_of(full))
    np.testing.assert_allclose(slopes, -0.7, atol=1e-12)


def test_derivative_of_a_parabola_in_the_logarithm_is_exact_inside_and_one_sided_at_the_ends():
    x = np.log(np.arange(1, 12))
    slopes = ih.loss_derivative(losses_of(np.tile(x**2, (3, 1)))).to_numpy()
    np.testing.assert_allclose(slopes[1:-1], 2 * x[1:-1], atol=1e-12)
    np.testing.assert_allclose(slopes[[0, -1]], [x[0] + x[1], x[-2] + x[-1]], atol=1e-12)


def test_derivative_keeps_snapshots_and_takes_means_too():
    series = stacked(random_losses(0), random_losses(1))
    slopes = ih.loss_derivative(series)
    assert slopes.dims == ("snapshot", "context_index")
    assert slopes.tokens_elapsed.to_numpy().tolist() == [0, 1000]
    np.testing.assert_array_equal(slopes[1], ih.loss_derivative(random_losses(1)))
    np.testing.assert_array_equal(slopes, ih.loss_derivative(ih.loss_by_context_index(series)))


def test_derivative_needs_ascending_indices():
    losses = random_losses(0)
    for places in ([4], [8, 1]):
        with pytest.raises(ih.InputError, match="at least two ascending context indices"):
            ih.loss_derivative(ih.TokenLosses(losses.dataset.isel(context_index=places)))
    with pytest.raises(ih.InputError, match="use loss_by_context_index"):
        ih.loss_derivative(losses.random_token)
