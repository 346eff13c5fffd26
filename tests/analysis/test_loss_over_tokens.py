import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.slopes import local_slopes
from tests.analysis.made_up import random_losses, stacked


def curve(values, tokens) -> xr.DataArray:
    return xr.DataArray(
        np.asarray(values, dtype=float), dims="snapshot", coords={"tokens_elapsed": ("snapshot", list(tokens))}
    )


def test_derivative_of_a_line_in_the_logarithm_is_its_slope_and_the_untrained_snapshot_is_left_out():
    tokens = np.array([0, 100, 250, 900, 1000, 8000])
    losses = curve([99.0, *(7 - 0.4 * np.log(tokens[1:]))], tokens)
    for span in (0.0, 0.3, 5.0):
        slopes = ih.loss_token_derivative(losses, span=span)
        np.testing.assert_allclose(slopes, -0.4, atol=1e-12)
        assert slopes.tokens_elapsed.to_numpy().tolist() == tokens[1:].tolist()
    assert slopes.attrs["unit"] == "nats"


def test_derivative_of_a_parabola_is_exact_inside():
    tokens = np.array([100, 250, 900, 1000, 8000])
    logs = np.log(tokens)
    slopes = ih.loss_token_derivative(curve(logs**2, tokens))
    np.testing.assert_allclose(slopes[1:-1], 2 * logs[1:-1], atol=1e-12)
    np.testing.assert_allclose(slopes[[0, -1]], [logs[0] + logs[1], logs[-2] + logs[-1]], atol=1e-12)


def test_slopes_within_a_span_are_those_of_the_least_squares_lines():
    generator = np.random.default_rng(0)
    places = np.sort(generator.uniform(0, 4, 30))
    values = generator.normal(size=(3, 30))
    fast = local_slopes(values, places, 0.4)
    for row in range(3):
        for point in range(30):
            reach = max(
                0.4, *(abs(places[other] - places[point]) for other in (point - 1, point + 1) if 0 <= other < 30)
            )
            near = np.abs(places - places[point]) <= reach
            slope = np.polyfit(places[near], values[row, near], 1)[0]
            assert fast[row, point] == pytest.approx(slope, abs=1e-9)


def test_losses_and_loss_by_context_index_are_taken_too():
    series = stacked(*(random_losses(seed) for seed in range(4)))
    slopes = ih.loss_token_derivative(series)
    assert slopes.dims == ("snapshot",)
    np.testing.assert_array_equal(slopes, ih.loss_token_derivative(ih.loss_curve(series)))
    each = ih.loss_token_derivative(ih.loss_by_context_index(series))
    assert each.dims == ("context_index", "snapshot")
    one = ih.loss_token_derivative(ih.loss_by_context_index(series).sel(context_index=3))
    np.testing.assert_allclose(each.sel(context_index=3), one)


def test_a_span_quiets_the_derivative_along_the_context_as_well():
    index = np.arange(1, 512)
    noisy = 5 - 0.2 * np.log(index) + np.random.default_rng(0).normal(0, 0.01, 511)
    means = xr.DataArray(noisy, dims="context_index", coords={"context_index": index})
    plain, quiet = (ih.loss_derivative(means, span=span).sel(context_index=slice(300, 500)) for span in (0.0, 0.2))
    assert float(plain.std()) > 1
    assert float(np.abs(quiet + 0.2).max()) < 0.1


def test_derivative_needs_trained_snapshots():
    with pytest.raises(ih.InputError, match="stack_snapshots first"):
        ih.loss_token_derivative(ih.loss_curve(random_losses(0)))
    with pytest.raises(ih.InputError, match="at least two ascending points"):
        ih.loss_token_derivative(curve([3, 2], [0, 10]))
    with pytest.raises(ih.InputError, match="span: expected a distance of at least 0, got -1"):
        ih.loss_token_derivative(curve([3, 2], [5, 10]), span=-1)


TOKENS = np.geomspace(1e8, 1e10, 41)
SIZES = {"small": 1e6, "middle": 1e7, "large": 1e8}


def crossing(at: float) -> dict[str, xr.DataArray]:
    """Slopes whose order is that of the paper: before a point the larger model's loss falls faster."""
    steeper = np.log(TOKENS / at)
    return {name: curve(-1 + 0.1 * place * steeper, TOKENS) for place, name in enumerate(SIZES)}


def test_order_inverts_where_the_slopes_cross():
    result = ih.loss_derivative_order(crossing(3.3e9), SIZES)
    order = result.order.to_numpy()
    assert set(order) == {1.0, -1.0}
    np.testing.assert_array_equal(order > 0, TOKENS < 3.3e9)
    (tokens,) = result.inversions
    below, above = TOKENS[TOKENS < 3.3e9][-1], TOKENS[TOKENS > 3.3e9][0]
    assert tokens == pytest.approx(np.sqrt(below * above))
    shuffled = {name: crossing(3.3e9)[name] for name in ("large", "small", "middle")}
    np.testing.assert_array_equal(ih.loss_derivative_order(shuffled, SIZES).order, order)


def test_order_is_the_rank_correlation():
    generator = np.random.default_rng(0)
    sizes = {f"m{n}": float(n) for n in range(7)}
    slopes = {name: curve(generator.normal(size=5), range(1, 6)) for name in sizes}
    order = ih.loss_derivative_order(slopes, sizes).order.to_numpy()
    for snapshot in range(5):
        falls = [-float(values[snapshot]) for values in slopes.values()]
        pairs = [(a, b) for a in range(7) for b in range(a)]
        expected = sum(1 if falls[a] > falls[b] else -1 for a, b in pairs) / len(pairs)
        assert order[snapshot] == pytest.approx(expected)


def test_models_of_one_size_do_not_count_against_each_other():
    slopes = {"a": curve([-1, -1], [1, 2]), "b": curve([-2, -2], [1, 2]), "c": curve([-3, 0], [1, 2])}
    result = ih.loss_derivative_order(slopes, {"a": 1, "b": 1, "c": 2})
    assert result.order.to_numpy().tolist() == [1, -1]


def test_a_small_wobble_is_no_inversion():
    sizes = {f"m{n}": float(n) for n in range(4)}
    rows = np.array([[-0, -1, -2, -3]] * 2 + [[-3, -2, -1, -2.5]] + [[-0, -1, -2, -3]] * 2, dtype=float)
    slopes = {name: curve(rows[:, n], range(1, 6)) for n, name in enumerate(sizes)}
    result = ih.loss_derivative_order(slopes, sizes)
    assert -0.5 < float(result.order[2]) < 0
    assert result.inversions == ()
    assert len(ih.loss_derivative_order(slopes, sizes, threshold=0.2).inversions) == 2


def test_order_takes_the_snapshots_that_all_have():
    slopes = {"a": curve([-1, -1, -1], [1, 2, 3]), "b": curve([-2, 0], [2, 3])}
    result = ih.loss_derivative_order(slopes, {"a": 1, "b": 2})
    assert result.order.tokens_elapsed.to_numpy().tolist() == [2, 3]
    assert result.order.to_numpy().tolist() == [1, -1]


def test_order_wrong_input():
    slopes = crossing(3e9)
    with pytest.raises(ih.InputError, match="sizes of large are missing"):
        ih.loss_derivative_order(slopes, {"small": 1, "middle": 2})
    with pytest.raises(ih.InputError, match="two models of different size"):
        ih.loss_derivative_order(slopes, dict.fromkeys(SIZES, 1.0))
    with pytest.raises(ih.InputError, match="share no snapshot"):
        ih.loss_derivative_order({"a": curve([1], [1]), "b": curve([1], [2])}, {"a": 1, "b": 2})
    with pytest.raises(ih.InputError, match="finite"):
        ih.loss_derivative_order({"a": curve([np.nan], [1]), "b": curve([1], [1])}, {"a": 1, "b": 2})
    with pytest.raises(ih.InputError, match="one number per snapshot"):
        ih.loss_derivative_order({"a": slopes["small"].expand_dims("head")}, {"a": 1})
    with pytest.raises(ih.InputError, match="threshold"):
        ih.loss_derivative_order(slopes, SIZES, threshold=0)
