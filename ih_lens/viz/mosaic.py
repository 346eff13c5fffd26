"""Small maps of the heads of many models, side by side on one scale of colours."""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_map import cells, undefined_heads
from ih_lens.viz.head_points import of_each_model
from ih_lens.viz.measure_names import measure_heading, measure_title
from ih_lens.viz.plotly_text import literal

_LARGEST, _CELL = 168, 22
"""Pixels: of the longer side of a map, and of a cell in maps that are smaller."""
_GAP_X, _GAP_Y = 56, 74
"""Pixels between maps, for ticks, titles of axes and the model's name."""
_WIDEST = 1300
"""Pixels of a row of maps."""
_LETTER = 7
"""Pixels of a letter of a name."""
_KEY = 30
"""Pixels of the key above the colour bar."""


class _Place(NamedTuple):
    """Where a map stands, in pixels from the upper left."""

    left: int
    top: int
    width: int
    height: int


def plot_head_mosaic(
    scores: Mapping[str, HeadScores], measure: str = "prefix_matching", *, n_columns: int | None = None
) -> go.Figure:
    """One measure of all heads of many models: a small map per model, all on one scale of colours.

    Layers go downwards and heads to the right, as in `plot_head_map`. Measures that can be negative have colours on
    both sides of 0.

    Args:
        scores: per model; the last snapshot counts where snapshots were stacked.
        measure: name of the measure.
        n_columns: maps beside each other; as many as fit a wide window if None.

    Raises:
        InputError: if there is no model, or one has no such measure.

    Examples:
        >>> plot_head_mosaic({"gpt2": scores, "pythia-70m": others}, "prefix_matching")
    """
    grids = {name: last_snapshot(of_model[measure]) for name, of_model in of_each_model(scores).items()}
    places = _places(grids, n_columns)
    width = max(place.left + place.width for place in places)
    height = max(130, *(place.top + place.height for place in places))  # room for the colour bar
    figure = go.Figure()
    crossed = [name for name, grid in grids.items() if bool(grid.isnull().any())]
    for place, number, (name, grid) in zip(places, _numbers(), grids.items(), strict=False):
        for trace in _map(name, grid, in_legend=name in crossed[:1]):
            figure.add_trace(trace.update(xaxis=f"x{number}", yaxis=f"y{number}"))
        _put(figure, name, grid, place, number, (width, height))
    frame(figure, f"{measure_heading(measure)} of all heads", width=width, height=height)
    bar = style.colour_bar(
        literal(measure_title(next(iter(grids.values())))), len=min(height - _KEY, 260), lenmode="pixels"
    )
    bar |= {"y": 1 - _KEY / height, "yanchor": "top", "ypad": 0}
    figure.update_layout(coloraxis={**_scale(list(grids.values())), "colorbar": bar})
    return figure


def _places(grids: Mapping[str, xr.DataArray], n_columns: int | None) -> list[_Place]:
    """Maps in rows from the left; a row is as high as its highest map, and ends where it would become too wide."""
    places: list[_Place] = []
    left = top = n_in_row = 0
    for name, grid in grids.items():
        cell = min(_CELL, _LARGEST / max(grid.shape))
        width, height = round(cell * grid.shape[1]), round(cell * grid.shape[0])
        room = max(width, _LETTER * len(name))
        if n_in_row == n_columns or (n_columns is None and n_in_row and left + room > _WIDEST):
            left, n_in_row = 0, 0
            top = max(place.top + place.height for place in places) + _GAP_Y
        places.append(_Place(left, top, width, height))
        left, n_in_row = left + room + _GAP_X, n_in_row + 1
    return places


def _numbers() -> Iterator[str]:
    """Plotly's numbers of axes: the first has none."""
    yield ""
    yield from map(str, itertools.count(2))


def _map(name: str, grid: xr.DataArray, *, in_legend: bool) -> list[go.Heatmap | go.Scatter]:
    """A model's cells, and crosses where the measure is not defined."""
    layers, heads = (grid[dim].to_numpy() for dim in ("layer", "head"))
    squares = go.Heatmap(
        x=heads,
        y=layers,
        z=grid.to_numpy(),
        customdata=[[str(HeadIndex(int(layer), int(head))) for head in heads] for layer in layers],
        coloraxis="coloraxis",
        name=literal(name),
        hovertemplate=f"{literal(name)} %{{customdata}}: %{{z:.3f}}<extra></extra>",
    )
    crosses = undefined_heads(grid, size=max(2, min(5, _LARGEST // max(grid.shape) - 1)))
    return [squares, *(trace.update(showlegend=in_legend, legendgroup="not defined") for trace in crosses)]


def _put(figure: go.Figure, name: str, grid: xr.DataArray, place: _Place, number: str, size: tuple[int, int]) -> None:
    """Axes and name of a map."""
    width, height = size
    across = [place.left / width, (place.left + place.width) / width]
    up = [1 - (place.top + place.height) / height, 1 - place.top / height]
    look = {"showgrid": False, "tickfont": {"size": 9}}
    layers, heads = (grid[dim].to_numpy() for dim in ("layer", "head"))
    x = {"domain": across, "anchor": f"y{number}", **cells(heads, most_ticks=8), **look}
    y = {"domain": up, "anchor": f"x{number}", **cells(layers, downwards=True, most_ticks=8), **look}
    titles = {word: {"text": word, "font": {"size": 10}, "standoff": 3} for word in ("head", "layer")}
    axes = {"xaxis": {**x, "title": titles["head"]}, "yaxis": {**y, "title": titles["layer"]}}
    figure.update_layout({f"{axis}{number}": settings for axis, settings in axes.items()})
    corner = {"x": across[0], "y": up[1], "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(text=literal(name), showarrow=False, font={"size": 12}, yshift=2, **corner)


def _scale(grids: list[xr.DataArray]) -> dict[str, object]:
    """One scale for all models: from 0 on, or around it if any number is negative."""
    numbers = np.concatenate([grid.to_numpy().ravel() for grid in grids])
    known = numbers[np.isfinite(numbers)]
    end = float(np.abs(known).max(initial=0.0)) or 1.0
    if (known < 0).any():
        return {"colorscale": style.DERIVATIVE_SCALE, "cmin": -end, "cmax": end}
    return {"colorscale": style.LOSS_SCALE, "cmin": 0.0, "cmax": end}
