import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from tests.viz.made_up import TOKENS, heads, notes_of, over_training, traces_of


def test_uncertainty_is_two_standard_errors_to_both_sides():
    scores = over_training().assign_coords(stderr=("snapshot", np.arange(5.0)))
    outline, line = traces_of(viz.plot_in_context_learning({"2L": scores}), 1)
    np.testing.assert_allclose(outline.y[:5], line.y + 2 * np.arange(5))
    np.testing.assert_allclose(outline.y[5:], (line.y - 2 * np.arange(5))[::-1])
    np.testing.assert_array_equal(outline.x, [*TOKENS, *TOKENS[::-1]])
    unknown = scores.assign_coords(stderr=("snapshot", np.full(5, np.nan)))
    assert len(traces_of(viz.plot_in_context_learning({"2L": unknown}), 1)) == 1


def test_a_line_per_head_is_named_and_coloured_by_depth():
    scores = heads(3, 2)
    lines = traces_of(viz.plot_prefix_matching({"3L": scores}), 1)
    assert [line.name for line in lines] == ["L0H0", "L0H1", "L1H0", "L1H1", "L2H0", "L2H1"]
    np.testing.assert_array_equal(lines[3].y, scores[:, 1, 1])
    assert all(line.name in line.hovertemplate for line in lines)
    colours = [line.line.color for line in lines]
    assert colours[0] == colours[1] == "rgb(42, 163, 90)"
    assert colours[4] == colours[5] == "rgb(68, 1, 84)"
    assert len(set(colours)) == 3


def test_heads_without_a_value_get_no_line():
    traces = heads(2, 2)
    traces[:, 0] = np.nan
    figure = viz.plot_qk_eigenvalue_trace({"2L": traces, "1L": traces[:, :1]})
    assert [line.name for line in traces_of(figure, 1)] == ["L1H0", "L1H1"]
    assert traces_of(figure, 2) == []
    assert "not defined<br>for this model" in notes_of(figure)


def test_heads_are_coloured_by_type_with_the_important_ones_on_top():
    kinds = [["induction", "other"], ["previous_token", "anti_copying_prefix_matching"]]
    types = xr.DataArray(np.array(kinds), dims=("layer", "head"))
    figure = viz.plot_before_and_after({"2L": heads(2, 2)}, {"2L": types})
    lines = traces_of(figure, 1)
    assert [line.name for line in lines] == ["L0H1", "L1H0", "L1H1", "L0H0"]
    assert [line.line.color for line in lines] == [look[1] for look in style.HEAD_TYPES.values()]
    assert lines[-1].hovertemplate.startswith("L0H0 (induction)")
    legend = [trace.name for trace in figure.data if trace.mode == "lines" and trace.showlegend is not False]
    assert legend == [look[0] for look in reversed(style.HEAD_TYPES.values())]


def test_without_types_all_heads_are_other():
    figure = viz.plot_in_context_learning_attribution({"2L": heads(2, 2)}, {})
    assert {line.line.color for line in traces_of(figure, 1)} == {style.HEAD_TYPES["other"][1]}


def test_types_must_fit():
    types = xr.DataArray(np.full((2, 3), "other"), dims=("layer", "head"))
    with pytest.raises(ih.InputError, match="types of \\(2, 3\\) heads for a measure of \\(2, 2\\)"):
        viz.plot_before_and_after({"2L": heads(2, 2)}, {"2L": types})
    with pytest.raises(ih.InputError, match=r"unknown types of heads \['skip'\]"):
        viz.plot_before_and_after({"2L": heads(2, 3)}, {"2L": types.where(types != "other", "skip")})


def test_map_has_training_to_the_right_and_context_upwards():
    losses = over_training(3, dims=("context_index",), context_index=[1, 5, 50])
    figure = viz.plot_loss_by_context_index({"2L": losses})
    (cells,) = traces_of(figure, 1)
    np.testing.assert_array_equal(cells.x, TOKENS)
    np.testing.assert_array_equal(cells.y, [1, 5, 50])
    np.testing.assert_array_equal(cells.z, losses.to_numpy().T.astype(np.float32))
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.title.text == "context index (tokens)"
    assert figure.layout.coloraxis.colorbar.title.text == "loss (nats)"


def test_derivative_has_a_scale_that_is_centred_and_not_stretched_by_single_cells():
    slopes = over_training(200, dims=("context_index",), context_index=range(1, 201))
    slopes[0, 0] = 1000.0
    coloraxis = viz.plot_loss_derivative({"2L": slopes, "1L": None}).layout.coloraxis
    assert coloraxis.cmin == -coloraxis.cmax
    assert 1 < coloraxis.cmax < 5
    flat = viz.plot_loss_derivative({"2L": slopes * 0}).layout.coloraxis
    assert (flat.cmin, flat.cmax) == (-1.0, 1.0)


def test_path_is_drawn_in_order_and_outlined_in_the_phase_change():
    path = over_training(2, dims=("component",))
    figure = viz.plot_token_loss_pca(
        {"2L": path, "1L": None}, explained_variance_ratio=[0.714, 0.1], phase_changes={"2L": (100, 400)}
    )
    outline, snapshots = traces_of(figure, 1)
    np.testing.assert_array_equal(snapshots.x, path[:, 0])
    np.testing.assert_array_equal(snapshots.y, path[:, 1])
    np.testing.assert_array_equal(snapshots.marker.color, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(outline.x, path[1:4, 0])
    assert outline.line.color == outline.marker.color == style.PHASE_CHANGE
    assert figure.layout.xaxis.title.text == "component 1 (nats, 71%)"
    assert figure.layout.yaxis.title.text == "component 2 (nats, 10%)"
    assert "not measured" in notes_of(figure)


def test_path_without_phase_change_or_shares():
    figure = viz.plot_token_loss_pca({"2L": over_training(2, dims=("component",))}, phase_changes={"2L": None})
    assert len(traces_of(figure, 1)) == 1
    assert figure.layout.xaxis.title.text == "component 1 (nats)"
    assert "phase change" not in [trace.name for trace in figure.data]
    with pytest.raises(ih.InputError, match="at least 2 components"):
        viz.plot_token_loss_pca({"2L": over_training(1, dims=("component",))})
