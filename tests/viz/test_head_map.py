import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens import viz

VALUES = xr.DataArray(
    [[0.1, np.nan, 0.9], [-0.2, 0.3, 0.4]], {"layer": [0, 1], "head": [0, 1, 2]}, ("layer", "head"), "made_up"
)


def test_every_head_has_its_cell() -> None:
    figure = viz.plot_head_map(VALUES.transpose("head", "layer"), title="Made up", unit="nats")
    cells = figure.data[0]
    np.testing.assert_array_equal(cells.z, VALUES.to_numpy())
    assert cells.customdata[1][2] == "L1H2"
    assert figure.layout.xaxis.range == (-0.5, 2.5)
    assert figure.layout.yaxis.range == (1.5, -0.5)
    assert figure.layout.title.text == "Made up"
    assert cells.colorbar.title.text == "nats"
    assert (cells.zmin, cells.zmax) == (-0.2, 0.9)
    figure.to_json()


def test_signed_colours_lie_around_zero() -> None:
    cells = viz.plot_head_map(-VALUES, title="Made up", unit="nats", signed=True).data[0]
    assert (cells.zmin, cells.zmax) == (-0.9, 0.9)


def test_nothing_defined_gives_an_empty_map() -> None:
    cells, _ = viz.plot_head_map(xr.full_like(VALUES, np.nan), title="Made up", unit="nats").data
    assert (cells.zmin, cells.zmax) == (0, 1)


def test_one_model_at_a_time() -> None:
    with pytest.raises(ih.InputError, match=r"got \['snapshot', 'layer', 'head'\]; choose a snapshot"):
        viz.plot_head_map(VALUES.expand_dims("snapshot"), title="Made up", unit="nats")


def test_what_is_not_defined_is_crossed_out_and_not_just_empty() -> None:
    reasoned = VALUES.assign_attrs(undefined="the window is too short")
    _, crosses = viz.plot_head_map(reasoned, title="Made up", unit="nats").data
    assert (list(crosses.x), list(crosses.y), list(crosses.customdata)) == ([1], [0], ["L0H1"])
    assert crosses.hovertemplate.startswith("%{customdata}: not defined<br>the window is too short")
    assert crosses.name == "not defined"
    assert len(viz.plot_head_map(VALUES.fillna(0.0), title="Made up", unit="nats").data) == 1


@pytest.mark.parametrize(
    ("size", "ticks"), [((1, 4), (1, 1)), ((12, 12), (1, 1)), ((48, 25), (5, 2)), ((17, 96), (2, 10))]
)
def test_ticks_are_whole_layers_and_heads_at_every_size(size: tuple[int, int], ticks: tuple[int, int]) -> None:
    values = xr.DataArray(np.ones(size), dims=("layer", "head"))
    layout = viz.plot_head_map(values, title="Made up", unit="nats").layout
    assert (layout.yaxis.dtick, layout.xaxis.dtick) == ticks
    assert layout.yaxis.tick0 == layout.xaxis.tick0 == 0
    cell = (layout.height - layout.margin.t - layout.margin.b) / size[0]
    assert cell >= 13
    assert layout.width < 1600


def test_some_layers_keep_their_numbers() -> None:
    values = xr.DataArray(np.ones((2, 3)), {"layer": [4, 5], "head": [0, 1, 2]}, ("layer", "head"))
    figure = viz.plot_head_map(values, title="Made up", unit="nats")
    assert figure.layout.yaxis.range == (5.5, 3.5)
    assert figure.data[0].customdata[1][2] == "L5H2"
