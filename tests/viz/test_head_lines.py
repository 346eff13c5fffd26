"""The paper's rule for models with more than 100 heads, in all figures with a line per head."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz
from tests.viz.made_up import TOKENS, heads, notes_of, traces_of
from tests.viz.realistic import head_types

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "prefix matching": viz.plot_prefix_matching,
    "trace": viz.plot_qk_eigenvalue_trace,
    "before and after": lambda values, **settings: viz.plot_before_and_after(values, {}, **settings),
    "attribution": lambda values, **settings: viz.plot_in_context_learning_attribution(values, {}, **settings),
}
every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)


def lines_by_head(figure: go.Figure) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Per head as hovering names it: its x, its y, and whether it is opaque."""
    found: dict[str, tuple[np.ndarray, np.ndarray, bool]] = {}
    for trace in traces_of(figure, 1):
        name = trace.hovertemplate.split("<br>")[0].split(" ")[0]
        if trace.opacity is None:
            found[name] = np.asarray(trace.x), np.asarray(trace.y), True
            continue
        numbers = np.asarray(trace.customdata)
        for head in np.unique(numbers):
            x, y = np.asarray(trace.x)[numbers == head], np.asarray(trace.y)[numbers == head]
            assert np.isnan(y[-1])  # a gap keeps the lines apart
            found[name.replace("%{customdata}", str(head))] = x[:-1], y[:-1], False
    return found


@every_figure
def test_every_head_is_drawn_and_100_are_opaque(draw: Callable[..., go.Figure]) -> None:
    values = heads(10, 12)
    values[:, 3, 4] = np.nan
    lines = lines_by_head(draw({"10L": values}))
    assert len(lines) == 119
    assert sum(opaque for *_, opaque in lines.values()) == 100
    expected = ih.opaque_heads(abs(values))
    for name, (x, y, opaque) in lines.items():
        layer, head = ih.HeadIndex.parse(name)
        np.testing.assert_array_equal(x, TOKENS)
        np.testing.assert_allclose(y, values[:, layer, head], rtol=1e-6)
        assert opaque == bool(expected[layer, head])


@every_figure
def test_the_rule_can_be_turned_off_and_a_sample_of_ones_own_given(draw: Callable[..., go.Figure]) -> None:
    values = heads(10, 12)
    assert all(opaque for *_, opaque in lines_by_head(draw({"10L": values}, opaque=False)).values())
    own = xr.DataArray(np.random.default_rng(0).random((12, 10)) < 0.2, dims=("head", "layer"))
    lines = lines_by_head(draw({"10L": values}, opaque={"10L": own}))
    for name, (*_, opaque) in lines.items():
        layer, head = ih.HeadIndex.parse(name)
        assert opaque == bool(own.isel(layer=layer, head=head))
    assert all(opaque for *_, opaque in lines_by_head(draw({"10L": values}, opaque={})).values())


def test_models_of_100_heads_are_drawn_as_ever() -> None:
    figure = viz.plot_prefix_matching({"10L": heads(10, 10)})
    assert len(traces_of(figure, 1)) == 100
    assert not any("opaque" in note for note in notes_of(figure))
    assert any("opaque" in note for note in notes_of(viz.plot_prefix_matching({"10L": heads(10, 11)})))


def test_translucent_heads_keep_the_colour_of_their_type_and_lie_below() -> None:
    values = heads(5, 30)
    types = head_types(values)
    figure = viz.plot_before_and_after({"5L": values}, {"5L": types})
    traces = traces_of(figure, 1)
    flags = [trace.opacity is None for trace in traces]
    assert flags == sorted(flags)
    for trace in traces[: flags.index(True)]:
        layer = int(trace.name.split()[1].rstrip(","))
        kinds = {str(types[layer, head].item()) for head in np.unique(trace.customdata)}
        assert [viz.style.HEAD_TYPES[kind][1] for kind in kinds] == [trace.line.color]


def test_a_thousand_heads_need_few_traces_and_bytes() -> None:
    values = xr.DataArray(
        np.random.default_rng(0).random((150, 40, 25)).astype(np.float32),
        dims=("snapshot", "layer", "head"),
        coords={"tokens_elapsed": ("snapshot", np.arange(150) * 7_654_321)},
    )
    figure = viz.plot_prefix_matching({"40L": values})
    assert len(figure.data) < 150
    assert len(figure.to_json()) < 0.75 * len(viz.plot_prefix_matching({"40L": values}, opaque=False).to_json())
    assert len(lines_by_head(figure)) == 1000


def test_two_remarks_do_not_lie_on_each_other() -> None:
    figure = viz.plot_prefix_matching({"10L": heads(10, 12)}, log_tokens=True)
    remarks = [note for note in figure.layout.annotations if note.yshift is not None and note.yshift < 0]
    assert len({note.yshift for note in remarks}) == 2
    one = viz.plot_prefix_matching({"10L": heads(10, 12)})
    assert figure.layout.height - one.layout.height == figure.layout.margin.b - one.layout.margin.b > 0


def test_the_choice_must_fit() -> None:
    other = xr.DataArray(np.ones((10, 11), dtype=bool), dims=("layer", "head"))
    with pytest.raises(ih.InputError, match=r"opaque: expected \(10, 12\) heads, as the measure has, got \(10, 11\)"):
        viz.plot_prefix_matching({"10L": heads(10, 12)}, opaque={"10L": other})
