"""Figures of losses show the numbers that they got: bumps, divergence, many models, two indices."""

import json
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from tests.viz.colours import lab
from tests.viz.made_up import TOKENS, bands_of, notes_of, over_training, traces_of

SPAN = ih.NonConvexSpan(100.0, 400.0, 200.0, 0.6, 0.1, 5.0, 2.0, "tokens")
CURVE = over_training()


def by_index(values, indices=None) -> xr.DataArray:
    numbers = np.asarray(values, dtype=float)
    return xr.DataArray(
        numbers, dims="context_index", coords={"context_index": indices or np.arange(1, len(numbers) + 1)}
    )


def test_a_bump_is_the_line_below_and_what_lies_between():
    figure = viz.plot_loss({"1L": CURVE, "2L": CURVE}, bumps={"2L": [SPAN]})
    between, along, below, line = traces_of(figure, 2)
    np.testing.assert_array_equal(along.x, [100, 200, 400])
    np.testing.assert_array_equal(along.y, CURVE[1:4])
    assert along.line.width > line.line.width
    np.testing.assert_allclose(below.x, [100, 200, 400])
    np.testing.assert_allclose(below.y, [5, 4, 2])
    np.testing.assert_allclose(between.y, [*CURVE[1:4], 2, 4, 5])
    assert below.line.dash == "dash"
    assert "at 200 tokens 0.600 ± 0.200 nats above" in below.hovertemplate
    np.testing.assert_array_equal(line.y, CURVE)
    assert len(traces_of(figure, 1)) == 1
    assert [trace.name for trace in figure.data if trace.showlegend is None] == ["not convex"]


def test_a_line_that_is_straight_in_the_logarithm_is_drawn_so_on_any_axis():
    logarithmic = ih.NonConvexSpan(100.0, 400.0, 200.0, 0.6, 0.1, 5.0, 2.0, "log_tokens")
    for log_tokens in (False, True):
        *_, below, _ = traces_of(viz.plot_loss({"2L": CURVE}, bumps={"2L": [logarithmic]}, log_tokens=log_tokens), 1)
        np.testing.assert_allclose(below.y, [5, 3.5, 2])
    from_the_start = ih.NonConvexSpan(0.0, 400.0, 100.0, 0.6, 0.1, 6.0, 2.0, "tokens")
    *_, below, _ = traces_of(viz.plot_loss({"2L": CURVE}, bumps={"2L": [from_the_start]}, log_tokens=True), 1)
    np.testing.assert_allclose(below.y, [5, 4, 2])


def test_bumps_that_would_go_undrawn_are_refused():
    with pytest.raises(ih.InputError, match="bumps of 3L, but the models are 2L"):
        viz.plot_loss({"2L": CURVE}, bumps={"3L": [SPAN]})
    assert traces_of(viz.plot_loss({"2L": None}, bumps={"2L": [SPAN]}), 1) == []
    assert "not convex" not in [trace.name for trace in viz.plot_loss({"2L": CURVE}, bumps={"2L": []}).data]


def test_divergence_has_the_differences_their_errors_and_a_line_at_zero():
    difference = over_training().assign_coords(stderr=("snapshot", np.arange(5.0)))
    figure = viz.plot_loss_divergence({"2L": difference, "3L": None}, reference="1L", phase_changes={"2L": (100, 200)})
    zero, outline, line = traces_of(figure, 1)
    assert (list(zero.x), list(zero.y)) == ([0, 800], [0, 0])
    np.testing.assert_array_equal(line.y, difference)
    np.testing.assert_allclose(outline.y[:5], line.y + 2 * np.arange(5))
    assert figure.layout.title.text == "Loss minus that of 1L"
    assert bands_of(figure) == {1: (100, 200)}
    assert "not measured" in notes_of(figure)


def test_losses_across_the_context_are_drawn_as_they_are_or_smoothed_or_relative():
    losses = {"1L": by_index([5, 4, 3, 2.5]), "2L": by_index([4, 2, 1, 0.5]), "3L": None}
    figure = viz.plot_losses_across_context(losses)
    assert [trace.name for trace in figure.data] == ["1L", "2L"]
    np.testing.assert_array_equal(figure.data[1].y, [4, 2, 1, 0.5])
    np.testing.assert_array_equal(figure.data[1].x, [1, 2, 3, 4])
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.title.text == "loss (nats)"
    smooth = viz.plot_losses_across_context(losses, smoothing=1)
    np.testing.assert_allclose(smooth.data[1].y, [4, 7 / 3, 3.5 / 3, 0.5])
    assert smooth.layout.yaxis.title.text == "loss (nats, mean over 3 indices)"
    relative = viz.plot_losses_across_context(losses, relative_to="1L")
    np.testing.assert_allclose(relative.data[1].y, [-1, -2, -2, -2])
    assert relative.layout.yaxis.title.text == "loss minus that of 1L (nats)"


def test_models_become_darker_and_differ_in_more_than_colour():
    losses = {f"{n}L": by_index([5, 4]) for n in range(6)}
    lines = viz.plot_losses_across_context(losses).data
    lightness = [lab(line.line.color, "all three kinds of cones")[0] for line in lines]
    assert lightness == sorted(lightness, reverse=True)
    assert all(one.line.dash != other.line.dash for one, other in pairwise(lines))


def test_losses_across_the_context_wrong_input():
    losses = {"1L": by_index([5, 4]), "2L": by_index([5, 4], [1, 3])}
    with pytest.raises(ih.InputError, match="2L was measured at other context indices"):
        viz.plot_losses_across_context(losses, relative_to="1L")
    with pytest.raises(ih.InputError, match="relative_to: losses of 9L, but the models are 1L, 2L"):
        viz.plot_losses_across_context(losses, relative_to="9L")
    with pytest.raises(ih.InputError, match=r"choose the rest with .isel first"):
        viz.plot_losses_across_context({"1L": losses["1L"].expand_dims("snapshot")})
    with pytest.raises(ih.InputError, match="at least one model"):
        viz.plot_losses_across_context({"1L": None})


def test_derivatives_over_training_with_their_order_and_its_inversions():
    tokens = np.array([1e3, 1e4, 1e5, 1e6])
    slopes = {
        name: xr.DataArray(values, dims="snapshot", coords={"tokens_elapsed": ("snapshot", tokens)})
        for name, values in {"small": [-1.0, -1, -1, -1], "large": [-2.0, -2, 0, 0]}.items()
    }
    order = ih.loss_derivative_order(slopes, {"small": 1, "large": 2})
    figure = viz.plot_loss_token_derivative(slopes, order=order, phase_changes={"large": (1e4, 1e5), "small": None})
    small, large, ranks = figure.data[:3]
    np.testing.assert_array_equal(large.x, tokens)
    np.testing.assert_array_equal(large.y, slopes["large"])
    assert (small.name, large.name) == ("small", "large")
    np.testing.assert_array_equal(ranks.y, [1, 1, -1, -1])
    assert ranks.yaxis == "y2"
    (inversion,) = [shape for shape in figure.layout.shapes if shape.name == "inversion"]
    assert inversion.x0 == inversion.x1 == order.inversions[0] == pytest.approx(10**4.5)
    assert bands_of(figure) == {1: (1e4, 1e5)}
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"
    alone = viz.plot_loss_token_derivative(slopes)
    assert len(alone.data) == 2
    assert alone.layout.shapes == ()
    with pytest.raises(ih.InputError, match="phase changes of huge"):
        viz.plot_loss_token_derivative(slopes, phase_changes={"huge": (1, 2)})


def sensitivity(late=(10, 50, 500), early=(5, 50, 500)) -> xr.DataArray:
    means = by_index(np.linspace(6, 2, 511))
    return ih.in_context_learning_sensitivity(means, late=list(late), early=list(early))


def test_sensitivity_is_a_map_with_the_default_pair_framed():
    scores = sensitivity()
    figure = viz.plot_in_context_learning_sensitivity({"2L": scores, "3L": None})
    (cells,) = traces_of(figure, 1)
    assert (list(cells.x), list(cells.y)) == (["5", "50", "500"], ["10", "50", "500"])
    np.testing.assert_array_equal(cells.z, scores)
    assert np.isnan(cells.z[0][1])
    (frame,) = figure.layout.shapes[-1:]
    assert frame.name == "default pair"
    assert [frame.x0, frame.x1, frame.y0, frame.y1] == [0.5, 1.5, 1.5, 2.5]  # early 50, late 500
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax == np.nanmin(scores)
    assert list(figure.layout.xaxis.categoryarray) == ["5", "50", "500"]


def test_sensitivity_without_the_default_pair_and_with_standard_errors():
    scores = sensitivity(late=[60], early=[5])
    known = scores.assign_coords(stderr=(("late", "early"), [[0.01]]))
    figure = viz.plot_in_context_learning_sensitivity({"2L": known})
    assert "default pair" not in [shape.name for shape in figure.layout.shapes]
    assert traces_of(figure, 1)[0].customdata[0][0] == " ± 0.020"
    with pytest.raises(ih.InputError, match=r"choose a snapshot with .isel first"):
        viz.plot_in_context_learning_sensitivity({"2L": scores.expand_dims("snapshot")})


def test_score_by_its_early_index():
    scores = sensitivity()
    figure = viz.plot_in_context_learning_by_early_index({"2L": scores, "1L": 0 * scores, "3L": None})
    assert [trace.name for trace in figure.data] == ["2L", "1L"]
    np.testing.assert_array_equal(figure.data[0].x, [5, 50])
    np.testing.assert_array_equal(figure.data[0].y, scores.sel(late=500, early=[5, 50]))
    assert figure.layout.yaxis.title.text == "loss at index 500 minus that at the early one (nats)"
    other = viz.plot_in_context_learning_by_early_index({"2L": scores}, late=50)
    np.testing.assert_array_equal(other.data[0].x, [5])
    assert other.data[0].error_y.array is None
    known = scores.assign_coords(stderr=(("late", "early"), np.full((3, 3), 0.5)))
    figure = viz.plot_in_context_learning_by_early_index({"2L": known})
    np.testing.assert_array_equal(figure.data[0].error_y.array, [1, 1])
    with pytest.raises(ih.InputError, match=r"late=7: the models share the late indices \[10, 50, 500\]"):
        viz.plot_in_context_learning_by_early_index({"2L": scores}, late=7)
    with pytest.raises(ih.InputError, match="at least one model"):
        viz.plot_in_context_learning_by_early_index({"2L": None})


def test_all_paths_in_one_panel():
    paths = {
        "1L": over_training(2, dims=("component",)),
        "2L": over_training(2, dims=("component",), seed=1),
        "3L": None,
    }
    figure = viz.plot_token_loss_pca_together(
        paths, explained_variance_ratio=[0.7, 0.1], phase_changes={"2L": (100, 400)}
    )
    outline, first, second, key = figure.data
    np.testing.assert_array_equal(outline.x, paths["2L"][1:4, 0])
    assert outline.line.color == style.PHASE_CHANGE
    np.testing.assert_array_equal(second.x, paths["2L"][:, 0])
    np.testing.assert_array_equal(second.customdata, TOKENS)
    assert (first.name, second.name, key.name) == ("1L", "2L", "phase change")
    assert first.marker.symbol != second.marker.symbol
    assert notes_of(figure) == ["1L", "2L", "first snapshots"]
    assert figure.layout.annotations[1].x == float(paths["2L"][-1, 0])
    assert figure.layout.xaxis.title.text == "component 1 (nats, 70%)"
    with pytest.raises(ih.InputError, match="phase changes of 4L"):
        viz.plot_token_loss_pca_together(paths, phase_changes={"4L": None})
    with pytest.raises(ih.InputError, match="at least one model"):
        viz.plot_token_loss_pca_together({"1L": None})


def test_the_outline_begins_and_ends_with_the_phase_change():
    path = over_training(2, dims=("component",))
    for band, expected in (((0, 100), [0, 1]), ((101, 399), [2]), ((400, 10**6), [3, 4]), ((201, 399), [])):
        first, *rest = traces_of(viz.plot_token_loss_pca({"2L": path}, phase_changes={"2L": band}), 1)
        np.testing.assert_array_equal(first.x if rest else [], path[expected, 0])
    (snapshots,) = traces_of(viz.plot_token_loss_pca({"2L": path}), 1)
    assert list(snapshots.text) == ["first", "", "", "", "last"]


def many_indices(n_snapshots: int = 200, n_indices: int = 511) -> xr.DataArray:
    tokens = np.arange(n_snapshots) * 10**6
    index = np.arange(1, n_indices + 1)
    values = 5 - 0.3 * np.log(index) + np.zeros((n_snapshots, 1))
    coords = {"tokens_elapsed": ("snapshot", tokens), "context_index": index}
    return xr.DataArray(values, dims=("snapshot", "context_index"), coords=coords)


def test_rows_of_a_map_are_averaged_only_where_they_would_be_thinner_than_a_pixel():
    losses = many_indices()
    (cells,) = traces_of(viz.plot_loss_by_context_index({"2L": losses}), 1)
    assert 60 < len(cells.y) <= 120
    np.testing.assert_allclose(cells.y[:5], [1, 2, 3, 4, 5])
    assert np.all(np.diff(cells.y) > 0)
    np.testing.assert_allclose(cells.z[:, 0], 5 - 0.3 * np.log(cells.y), atol=1e-5)
    (few,) = traces_of(viz.plot_loss_by_context_index({"2L": losses[:, :120]}), 1)
    assert len(few.y) == 120


def test_the_mean_of_a_row_of_derivatives_is_the_slope_across_it():
    noise = np.random.default_rng(0).normal(0, 0.01, 511)
    slopes = ih.loss_derivative(many_indices() + noise)
    figure = viz.plot_loss_derivative({"2L": slopes})
    (cells,) = traces_of(figure, 1)
    assert float(np.abs(slopes).max()) > 3
    assert np.abs(np.asarray(cells.z)[cells.y > 100] + 0.3).max() < 1
    assert figure.layout.coloraxis.cmax < 1


def test_a_table_of_eight_models_weighs_little():
    maps = {f"model {n}": many_indices() for n in range(8)}
    assert len(json.dumps(viz.plot_loss_by_context_index(maps).to_plotly_json(), default=str)) < 10**7
    assert len(viz.plot_loss_by_context_index(maps).to_json()) < 1.3e6


def test_a_short_logarithmic_axis_has_ticks_between_the_powers_of_ten():
    figure = viz.plot_loss({"2L": CURVE}, log_tokens=True)
    assert {100, 200, 500} <= set(figure.layout.xaxis.tickvals)
    long = CURVE.assign_coords(tokens_elapsed=("snapshot", [0, 1, 100, 10**4, 10**6]))
    assert viz.plot_loss({"2L": long}, log_tokens=True).layout.xaxis.tickvals is None
    assert viz.plot_loss({"2L": CURVE}).layout.xaxis.tickvals is None
