"""The figures that show heads as points."""

import numpy as np
import plotly.graph_objects as go
import pytest

import ih_lens as ih
from ih_lens import viz
from ih_lens.results import stack_snapshots
from ih_lens.viz import style
from ih_lens.viz.head_points import point_looks
from tests.viz.made_up import all_scores, notes_of

MODELS = {"gpt2": all_scores(12, 12), "1L": all_scores(1, 4, seed=1), "6L": all_scores(6, 8, seed=2)}


def points_of(figure: go.Figure) -> dict[tuple[str, str], tuple[float, float, float]]:
    """x, y and opacity of every head, by model and name."""
    return {
        (trace.name, head): (x, y, trace.marker.opacity)
        for trace in figure.data
        if isinstance(trace, go.Scatter) and trace.customdata is not None
        for head, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


def assert_points(figure: go.Figure, x: str, y: str) -> None:
    points = points_of(figure)
    expected = {
        (name, f"L{layer}H{head}"): (scores[x][layer, head].item(), scores[y][layer, head].item())
        for name, scores in MODELS.items()
        for layer, head in np.ndindex(scores[x].shape)
        if np.isfinite(scores[x][layer, head]) and np.isfinite(scores[y][layer, head])
    }
    assert {key: place[:2] for key, place in points.items()} == expected


def test_joint_scores_show_every_head_of_every_model() -> None:
    figure = viz.plot_joint_scores(MODELS)
    assert_points(figure, "copying", "prefix_matching")
    opaque = [opacity > 0.5 for (name, _), (*_, opacity) in points_of(figure).items() if name == "gpt2"]
    assert sum(opaque) == 100
    assert figure.layout.xaxis3.title.text == "copying (-1 to 1)"
    assert figure.layout.yaxis3.title.text == "prefix matching (0 to 1)"


@pytest.mark.parametrize("copying", [0.0, 0.2])
def test_corners_are_those_of_the_types_of_heads(copying: float) -> None:
    figure = viz.plot_joint_scores(MODELS, copying=copying, prefix_matching=0.4)
    (corner,) = [shape for shape in figure.layout.shapes if shape.name == "anti-copying"]
    assert (corner.x1, corner.y0) == (-copying, 0.4)
    assert corner.fillcolor == style.HEAD_TYPES["anti_copying_prefix_matching"][1]
    types = [ih.head_types(scores, prefix_matching=0.4, copying=copying) for scores in MODELS.values()]
    for kind, label in (("anti_copying_prefix_matching", "anti-copying prefix-matching"), ("induction", "induction")):
        count = sum(int((of_model == kind).sum()) for of_model in types)
        assert f"{label}: {count} heads" in notes_of(figure)
    lines = {(shape.x0, shape.y0) for shape in figure.layout.shapes if shape.line.dash == "dash"}
    assert lines == {(0, 0.4), *((threshold, 0) for threshold in {copying, -copying})}


def test_histograms_count_all_heads() -> None:
    above, beside = (trace for trace in viz.plot_joint_scores(MODELS).data if isinstance(trace, go.Bar))
    copies, matches = (
        np.concatenate([scores[name].to_numpy().ravel() for scores in MODELS.values()])
        for name in ("copying", "prefix_matching")
    )
    assert sum(above.y) == len(copies)
    assert sum(beside.x) == len(matches)
    for middle, count in zip(above.x, above.y, strict=True):
        assert count == ((copies >= middle - 0.025 - 1e-12) & (copies < middle + 0.025 - 1e-12)).sum()
    assert beside.x[0] == (matches < 0.05).sum()


def test_joint_scores_are_coloured_by_depth_or_by_model() -> None:
    by_depth = [trace for trace in viz.plot_joint_scores({"6L": MODELS["6L"]}).data if trace.name == "6L"]
    depths = dict(zip(by_depth[0].customdata, by_depth[0].marker.color, strict=True))
    assert depths["L0H1"] == 0
    assert depths["L2H3"] == 0.4
    assert depths["L5H7"] == 1
    by_model = viz.plot_joint_scores({"6L": MODELS["6L"]}, colour="model").data
    assert {trace.marker.color for trace in by_model if trace.name == "6L"} == {style.CATEGORIES[0]}
    with pytest.raises(ih.InputError, match="colour: expected one of depth, model"):
        viz.plot_joint_scores(MODELS, colour="head")


@pytest.mark.parametrize(
    ("draw", "x", "y"),
    [
        (viz.plot_copying_validation, "ov_copying_eigenvalues", "copying"),
        (viz.plot_prefix_matching_validation, "qk_eigenvalue_trace", "prefix_matching"),
    ],
)
def test_validation_shows_every_head_and_the_correlations(draw, x: str, y: str) -> None:
    for together in (False, True):
        assert_points(draw(MODELS, together=together), x, y)
    headings = [note for note in notes_of(draw(MODELS)) if "<br>" in note and "heads" in note]
    for heading, (name, scores) in zip(headings, MODELS.items(), strict=True):
        agreement = ih.score_agreement(scores, x, y)
        if agreement.n_heads:
            assert f"r {agreement.pearson:.2f}, ρ {agreement.spearman:.2f}" in heading
        else:
            assert "no correlation" in heading
        assert heading.startswith(f"{name}<br>")
        assert f"{agreement.n_heads} of {agreement.n_heads + agreement.n_undefined} heads" in heading
    everything = ih.score_agreement(list(MODELS.values()), x, y)
    assert f"r {everything.pearson:.2f}" in notes_of(draw(MODELS, together=True))[0]


def test_a_model_without_the_measure_is_marked() -> None:
    figure = viz.plot_prefix_matching_validation(MODELS)
    assert notes_of(figure).count("not defined<br>for this model") == 1


def test_validation_panels_have_scales_of_their_own() -> None:
    figure = viz.plot_prefix_matching_validation(MODELS)
    assert {axis.matches for axis in figure.select_xaxes()} == {None}
    assert figure.layout.xaxis.title.text == "trace of QK eigenvalues (no unit)"


def test_depth_shows_every_head_where_its_layer_lies() -> None:
    figure = viz.plot_score_by_depth(MODELS, "prefix_matching")
    points = points_of(figure)
    assert len(points) == 144 + 4 + 48
    for (name, head), (x, y, _) in points.items():
        layer, number = ih.HeadIndex.parse(head)
        n_layers = MODELS[name].dataset.sizes["layer"]
        assert x == (layer / (n_layers - 1) if n_layers > 1 else 0)
        assert y == MODELS[name]["prefix_matching"][layer, number]


def test_lines_are_quantiles_in_bins_of_depth() -> None:
    figure = viz.plot_score_by_depth(MODELS, quantiles=(1.0, 0.5), n_bins=4)
    expected = ih.score_by_depth(
        [scores["prefix_matching"] for scores in MODELS.values()], n_bins=4, quantiles=(1.0, 0.5)
    )
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    for line, quantile in zip(lines, (1.0, 0.5), strict=True):
        np.testing.assert_array_equal(line.x, [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1])
        np.testing.assert_array_equal(line.y[::2], expected.sel(quantile=quantile))
    assert [line.name.split("<br>")[0] for line in lines] == ["maximum", "median"]
    assert lines[0].line.dash != lines[1].line.dash
    assert not [trace for trace in viz.plot_score_by_depth(MODELS, quantiles=()).data if trace.mode == "lines"]


def test_the_last_snapshot_counts() -> None:
    first, last = all_scores(2, 4), all_scores(2, 4, seed=1)
    stacked = {"2L": stack_snapshots([first, last], [0, 1], [0, 10])}
    for draw in (viz.plot_joint_scores, viz.plot_score_by_depth, viz.plot_copying_validation):
        assert points_of(draw(stacked)) == points_of(draw({"2L": last}))


def test_all_heads_can_be_opaque() -> None:
    for draw in (viz.plot_joint_scores, viz.plot_score_by_depth, viz.plot_copying_validation):
        assert {opacity > 0.5 for *_, opacity in points_of(draw(MODELS)).values()} == {True, False}
        assert {opacity > 0.5 for *_, opacity in points_of(draw(MODELS, opaque=False)).values()} == {True}
        assert any("opaque" in note for note in notes_of(draw(MODELS)))


def test_up_to_49_models_look_different() -> None:
    looks = point_looks([str(n) for n in range(49)])
    assert len(set(looks.values())) == 49
    first = [looks[str(n)] for n in range(7)]
    assert len({look.symbol for look in first}) == len({look.colour for look in first}) == 7


def test_wrong_input() -> None:
    for draw in (viz.plot_joint_scores, viz.plot_score_by_depth, viz.plot_copying_validation):
        with pytest.raises(ih.InputError, match="at least one model by its name, got none"):
            draw({})
    with pytest.raises(ih.InputError, match="no measure 'heads' in these scores"):
        viz.plot_score_by_depth(MODELS, "heads")
    other = {"gpt2": ih.opaque_heads(MODELS["6L"]["copying"])}
    with pytest.raises(ih.InputError, match="take all of them from one model"):
        viz.plot_joint_scores(MODELS, opaque=other)
