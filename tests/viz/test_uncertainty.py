import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz

VALUES = xr.DataArray(
    [[0.1, np.nan, 0.9], [-0.2, 0.3, 0.4]], {"layer": [0, 1], "head": [0, 1, 2]}, ("layer", "head"), "made_up"
)
INTERVAL = xr.concat([VALUES - 0.1, VALUES + 0.3], dim="bound").assign_coords(bound=["low", "high"])
NULL = xr.DataArray(np.arange(200.0).reshape(100, 2), dims=("draw", "layer"))
WORDS = {"title": "Made up", "unit": "score (0 to 1)"}


def test_heads_stand_in_order_with_their_intervals() -> None:
    figure = viz.plot_head_intervals(VALUES, INTERVAL.transpose("head", "bound", "layer"), max_heads=4, **WORDS)
    points = figure.data[0]
    assert list(points.x) == ["L0H2", "L1H2", "L1H1", "L0H0"]
    np.testing.assert_allclose(points.y, [0.9, 0.4, 0.3, 0.1])
    np.testing.assert_allclose(points.error_y.array, 0.3)
    np.testing.assert_allclose(points.error_y.arrayminus, 0.1)
    assert points.customdata[1] == "0.300 to 0.700"
    assert points.marker.color[0] == points.marker.color[3] != points.marker.color[1] == points.marker.color[2]
    assert figure.layout.yaxis.title.text == "score (0 to 1)"
    smallest = viz.plot_head_intervals(VALUES, INTERVAL, max_heads=2, largest=False, **WORDS)
    assert list(smallest.data[0].x) == ["L1H0", "L0H0"]
    figure.to_json()


def test_infinite_intervals_reach_to_the_edge() -> None:
    interval = INTERVAL.copy()
    interval.loc[{"bound": "low", "layer": 0, "head": 0}] = -np.inf
    figure = viz.plot_head_intervals(VALUES, interval, **WORDS)
    points, (bottom, top) = figure.data[0], figure.layout.yaxis.range
    place = list(points.x).index("L0H0")
    assert points.y[place] - points.error_y.arrayminus[place] == pytest.approx(bottom)
    assert bottom < -0.3  # the lowest finite end
    assert top > 1.2
    assert points.customdata[place] == "-inf to 0.400"


def test_the_level_is_told() -> None:
    estimate = ih.Estimate.from_examples(xr.DataArray(np.eye(6), {"group": list("abcdef")}, ("group", "example")))
    interval = estimate.confidence_interval(0.9, method="t")
    figure = viz.plot_head_intervals(estimate.value, interval, title="Made up", unit="nats")
    assert figure.layout.yaxis.title.text == "nats, 90% interval"


def test_the_middle_of_the_null_is_behind_each_head() -> None:
    bars, points, _ = viz.plot_head_intervals(VALUES, INTERVAL, null=NULL, **WORDS).data
    assert list(bars.x) == list(points.x)
    for place, name in enumerate(bars.x):
        low, high = np.quantile(NULL[:, ih.HeadIndex.parse(name).layer], [0.025, 0.975])
        assert (bars.base[place], bars.base[place] + bars.y[place]) == pytest.approx((low, high))
    shared = viz.plot_head_intervals(VALUES, INTERVAL, null=NULL[:, 0], **WORDS).data[0]
    assert len(set(shared.base)) == 1


def test_groups_are_shown_with_a_head_per_line() -> None:
    values = xr.DataArray([0.5, 0.7], {"group": ["L0H0+L1H2", "L1H1"]}, ("group",))
    interval = xr.concat([values, values], dim="bound").assign_coords(bound=["low", "high"])
    figure = viz.plot_head_intervals(values, interval, **WORDS)
    assert list(figure.data[0].x) == ["L1H1", "L0H0+L1H2"]
    assert figure.layout.xaxis.ticktext == ("L1H1", "L0H0<br>L1H2")


def test_every_head_stands_below_what_chance_gives() -> None:
    figure = viz.plot_null_distribution(VALUES, NULL, n_named=2, **WORDS)
    chance, heads = figure.data
    assert sorted(chance.x) == list(range(200))
    assert dict(zip(heads.customdata, heads.x, strict=True)) == {
        str(ih.HeadIndex(*place)): VALUES.to_numpy()[place] for place in np.ndindex(2, 3) if place != (0, 1)
    }
    assert [int(name[1]) for name in heads.customdata] == list(heads.y)
    assert sorted(filter(None, heads.text)) == ["L0H0", "L1H0"]  # farthest from the null's median, 99.5
    assert chance.xbins.start <= -0.2
    assert chance.xbins.end >= 199
    assert figure.layout.xaxis2.title.text == "score (0 to 1)"
    figure.to_json()


def test_what_cannot_be_drawn_is_explained() -> None:
    for message, call in [
        (
            r"interval: expected the dimensions \['layer', 'head', 'bound'\]",
            lambda: viz.plot_head_intervals(VALUES, VALUES, **WORDS),
        ),
        ("at least one value that is defined", lambda: viz.plot_head_intervals(VALUES * np.nan, INTERVAL, **WORDS)),
        (
            r"values: expected \[layer, head\] or \[group\]",
            lambda: viz.plot_head_intervals(VALUES.expand_dims("snapshot"), INTERVAL.expand_dims("snapshot"), **WORDS),
        ),
        ("null: expected draws, got none", lambda: viz.plot_null_distribution(VALUES, NULL * np.nan, **WORDS)),
        (r"observed: expected scores \[layer, head\]", lambda: viz.plot_null_distribution(VALUES[0], NULL, **WORDS)),
    ]:
        with pytest.raises(ih.InputError, match=message):
            call()
