from itertools import combinations

import numpy as np
import plotly.graph_objects as go
import pytest

import ih_lens as ih
from ih_lens import viz
from ih_lens.results import stack_snapshots
from tests.viz.made_up import all_scores, notes_of

SIZES = [(12, 12), (1, 4), (48, 25), (2, 8), (6, 8), (24, 16)]


def maps_of(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if isinstance(trace, go.Heatmap)]


def boxes_of(figure: go.Figure) -> list[tuple[float, float, float, float]]:
    """Left, right, bottom and top of each map, in pixels of the area between the margins."""
    layout = figure.layout
    width = layout.width - layout.margin.l - layout.margin.r
    height = layout.height - layout.margin.t - layout.margin.b
    axes = [(layout[f"xaxis{trace.xaxis[1:]}"], layout[f"yaxis{trace.yaxis[1:]}"]) for trace in maps_of(figure)]
    return [(x.domain[0] * width, x.domain[1] * width, y.domain[0] * height, y.domain[1] * height) for x, y in axes]


@pytest.mark.parametrize("n_models", [1, 2, 7, 8, 40])
def test_every_head_of_every_model_has_its_cell(n_models: int) -> None:
    models = {f"model {n}": all_scores(*SIZES[n % len(SIZES)], seed=n) for n in range(n_models)}
    figure = viz.plot_head_mosaic(models, "copying")
    assert notes_of(figure) == list(models)
    for trace, (name, scores) in zip(maps_of(figure), models.items(), strict=True):
        np.testing.assert_array_equal(trace.z, scores["copying"])
        assert trace.name == name
        assert trace.customdata[0][3] == "L0H3"
        assert name in trace.hovertemplate
        assert trace.coloraxis == "coloraxis"
    figure.to_json()


def test_maps_do_not_lie_on_each_other_and_fit_a_window() -> None:
    figure = viz.plot_head_mosaic({f"model {n}": all_scores(*SIZES[n % len(SIZES)]) for n in range(40)})
    boxes = boxes_of(figure)
    for (left, right, low, high), (left_2, right_2, low_2, high_2) in combinations(boxes, 2):
        assert right + 40 <= left_2 or right_2 + 40 <= left or high + 40 <= low_2 or high_2 + 40 <= low
    assert figure.layout.width < 1700
    for (left, right, low, high), (n_layers, n_heads) in zip(boxes, SIZES, strict=False):
        assert (right - left) / n_heads == pytest.approx((high - low) / n_layers, abs=0.6)


def test_columns_can_be_chosen() -> None:
    figure = viz.plot_head_mosaic({f"model {n}": all_scores(2, 8) for n in range(9)}, n_columns=3)
    lefts = {round(box[0]) for box in boxes_of(figure)}
    assert len(lefts) == 3


def test_one_scale_for_all() -> None:
    models = {"2L": all_scores(2, 8), "6L": all_scores(6, 8, seed=1)}
    one_sided = viz.plot_head_mosaic(models, "prefix_matching").layout.coloraxis
    assert one_sided.cmin == 0
    assert one_sided.cmax == max(float(scores["prefix_matching"].max()) for scores in models.values())
    assert one_sided.colorbar.title.text == "prefix matching (0 to 1)"
    signed = viz.plot_head_mosaic(models, "copying").layout.coloraxis
    assert signed.cmin == -signed.cmax < 0
    assert signed.colorscale != one_sided.colorscale


def test_undefined_heads_are_crossed_out_and_explained_once() -> None:
    figure = viz.plot_head_mosaic({"2L": all_scores(2, 8), "6L": all_scores(6, 8)}, "qk_eigenvalue_trace")
    crosses = [trace for trace in figure.data if trace.name == "not defined"]
    assert [len(trace.x) for trace in crosses] == [8, 8]
    assert [trace.showlegend for trace in crosses] == [True, False]
    assert [trace.xaxis for trace in crosses] == ["x", "x2"]


def test_the_last_snapshot_counts() -> None:
    first, last = all_scores(2, 4), all_scores(2, 4, seed=1)
    stacked = stack_snapshots([first, last], [0, 1], [0, 10])
    (trace,) = maps_of(viz.plot_head_mosaic({"2L": stacked}, "copying"))
    np.testing.assert_array_equal(trace.z, last["copying"])


def test_wrong_input() -> None:
    with pytest.raises(ih.InputError, match="at least one model by its name, got none"):
        viz.plot_head_mosaic({})
    with pytest.raises(ih.InputError, match="no measure 'induction' in these scores"):
        viz.plot_head_mosaic({"2L": all_scores(2, 4)}, "induction")
