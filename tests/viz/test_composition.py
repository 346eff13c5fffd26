import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from tests.oracles.hand_built import INDUCTION, PREVIOUS_TOKEN, induction_model
from tests.viz.made_up import notes_of
from tests.viz.realistic import composition, composition_types


def edges_of(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data if trace.mode == "lines"}


def nodes_of(figure: go.Figure) -> dict[str, tuple[float, float, str, str, float]]:
    """x, y, written name, colour and size of every head."""
    return {
        head: (x, y, text, trace.marker.color, size)
        for trace in figure.data
        if trace.mode == "markers+text"
        for head, x, y, text, size in zip(
            trace.customdata, trace.x, trace.y, trace.text, trace.marker.size, strict=True
        )
    }


def test_the_strongest_pairs_are_lines_from_the_earlier_head_to_the_later_one() -> None:
    scores = composition()
    figure = viz.plot_composition(scores, k=20)
    pairs = ih.strongest_compositions(scores, k=20)
    edges = edges_of(figure)
    assert list(edges) == [f"{pair.earlier_head} to {pair.head}" for pair in reversed(list(pairs.itertuples()))]
    for pair in pairs.itertuples():
        edge = edges[f"{pair.earlier_head} to {pair.head}"]
        assert (edge.x[0], edge.y[0]) == (pair.earlier_head.head, pair.earlier_head.layer)
        assert (edge.x[-1], edge.y[-1]) == (pair.head.head, pair.head.layer)
        assert f"{pair.head} reads {pair.earlier_head}<br>score {pair.score:.4f}" in edge.hovertemplate
    widths = [edge.line.width for edge in edges.values()]
    assert widths == sorted(widths)  # the strongest on top


def test_lines_stay_within_the_panel_and_avoid_the_heads_between() -> None:
    figure = viz.plot_composition(composition(), k=40)
    low, high = figure.layout.xaxis.range
    for name, edge in edges_of(figure).items():
        assert low < min(edge.x)
        assert max(edge.x) < high
        earlier, later = (ih.HeadIndex.parse(head) for head in name.split(" to "))
        if earlier.head == later.head and later.layer - earlier.layer > 1:
            assert abs(edge.x[12] - earlier.head) > 0.2


def test_every_head_is_a_node_where_the_head_map_has_its_cell() -> None:
    figure = viz.plot_composition(composition(), k=5, types=composition_types())
    nodes = nodes_of(figure)
    assert len(nodes) == 144
    named = {head for edge in edges_of(figure) for head in edge.split(" to ")}
    for head, (x, y, text, colour, size) in nodes.items():
        layer, number = ih.HeadIndex.parse(head)
        assert (x, y) == (number, layer)
        assert text == (head if head in named else "")
        assert (size > 10) == (head in named)
        assert colour == style.HEAD_TYPES[str(composition_types()[layer, number].item())][1]
    assert figure.layout.yaxis.range == (11.5, -0.5)
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert legend == ["other", "previous token", "induction"]


def test_the_pair_of_a_model_built_by_hand_stands_out() -> None:
    scores = ih.composition_scores(induction_model())
    pair = f"L0H{PREVIOUS_TOKEN} to L1H{INDUCTION}"
    figure = viz.plot_composition(scores)
    assert pair in edges_of(figure)
    assert len(edges_of(figure)) == 3  # the others do not exceed random heads
    assert figure.layout.title.text == "K-composition: the 3 strongest pairs"
    assert any(note.startswith("Random heads score 0.08") for note in notes_of(figure))


def test_the_matrix_has_a_row_per_later_head_and_a_column_per_earlier_one() -> None:
    scores = composition(n_layers=11, n_heads=12)
    (matrix,) = viz.plot_composition_matrix(scores).data
    later, earlier = (list(names) for names in (matrix.y, matrix.x))
    assert (later[0], later[-1], earlier[0], earlier[-1]) == ("L1H0", "L10H11", "L0H0", "L9H11")
    for row, column in ((later.index("L4H1"), earlier.index("L1H3")), (later.index("L10H7"), earlier.index("L2H8"))):
        head, before = ih.HeadIndex.parse(later[row]), ih.HeadIndex.parse(earlier[column])
        assert matrix.z[row][column] == pytest.approx(scores[(*head, *before)].item() - 0.036, abs=1e-6)
    assert np.isnan(matrix.z[later.index("L2H0")][earlier.index("L2H1")])
    assert matrix.zmin == -matrix.zmax
    assert 0 < matrix.zmax < np.nanmax(matrix.z)


def test_ticks_name_layers() -> None:
    layout = viz.plot_composition_matrix(composition()).layout
    assert layout.xaxis.ticktext == tuple(str(layer) for layer in range(11))
    assert layout.yaxis.ticktext == tuple(str(layer) for layer in range(1, 12))
    assert layout.xaxis.tickvals[:2] == (5.5, 17.5)


def test_wrong_input() -> None:
    scores = composition()
    with pytest.raises(ih.InputError, match="types: expected those of 12 layers of 12 heads"):
        viz.plot_composition(scores, types=composition_types(12, 11))
    with pytest.raises(ih.InputError, match="k: expected an integer of at least 1"):
        viz.plot_composition(scores, k=0)
    with pytest.raises(ih.InputError, match="heads of one layer do not compose"):
        viz.plot_composition_matrix(scores[:1, :, :1])
    for draw in (viz.plot_composition, viz.plot_composition_matrix):
        with pytest.raises(ih.InputError, match="take them from composition_scores"):
            draw(xr.zeros_like(scores).drop_vars(["baseline_mean", "baseline_std"]))


def test_nothing_above_random_heads_gives_heads_alone() -> None:
    figure = viz.plot_composition(composition() * 0)
    assert edges_of(figure) == {}
    assert len(nodes_of(figure)) == 144
