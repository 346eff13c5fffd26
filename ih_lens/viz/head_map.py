"""One number per head of a single model, as a map of layers and heads."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.plotly_text import literal

_CELL, _SMALLEST_CELL = 34, 13
"""Pixels per head; small models are not stretched, and cells of large ones can still be pointed at."""
_LONGEST = 620
"""Pixels of the longer side, where cells do not become too small."""


def plot_head_map(values: xr.DataArray, *, title: str, unit: str, signed: bool = False) -> go.Figure:
    """Any measure of the heads of one model: a cell per head, layers downwards, heads to the right.

    Args:
        values: [layer, head]; NaN is marked with a cross as not defined.
        title: what the measure is.
        unit: of the colour bar, such as "score (0 to 1)".
        signed: colours on both sides of 0, for measures that have a sign.

    Raises:
        InputError: if the values are not [layer, head].

    Examples:
        >>> plot_head_map(scores["prefix_matching"], title="Prefix matching", unit="score (0 to 1)")
    """
    if set(values.dims) != {"layer", "head"}:
        raise InputError(
            f"expected values [layer, head] of one model, got {list(values.dims)}; choose a snapshot with .isel first"
        )
    grid = values.transpose("layer", "head")
    numbers = grid.to_numpy()
    layers, heads = (grid[dim].to_numpy() for dim in ("layer", "head"))
    names = [[str(HeadIndex(int(layer), int(head))) for head in heads] for layer in layers]
    end = float(np.nanmax(np.abs(numbers))) if np.isfinite(numbers).any() else 1.0
    map_of_heads = go.Heatmap(
        x=heads,
        y=layers,
        z=numbers,
        customdata=names,
        colorscale=style.DERIVATIVE_SCALE if signed else style.LOSS_SCALE,
        zmin=-end if signed else min(0.0, float(np.nanmin(numbers, initial=0.0))),
        zmax=end,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar(literal(unit)),
        hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
    )
    figure = go.Figure([map_of_heads, *undefined_heads(grid)])
    cell = max(_SMALLEST_CELL, min(_CELL, _LONGEST // max(grid.shape)))
    figure.update_xaxes(title="head", showgrid=False, **cells(heads))
    figure.update_yaxes(title="layer", showgrid=False, **cells(layers, downwards=True))
    frame(figure, title, width=max(220, cell * len(heads)), height=max(120, cell * len(layers)))
    return figure


def undefined_heads(grid: xr.DataArray, *, size: int = 7) -> list[go.Scatter]:
    """A cross for each head without a number, which is something else than an empty place; no trace without any."""
    places = np.argwhere(np.isnan(grid.to_numpy()))
    if not len(places):
        return []
    layers, heads = (grid[dim].to_numpy()[places[:, n]] for n, dim in enumerate(("layer", "head")))
    reason = f"<br>{literal(grid.attrs['undefined'])}" if "undefined" in grid.attrs else ""
    names = [str(HeadIndex(int(layer), int(head))) for layer, head in zip(layers, heads, strict=True)]
    crosses = go.Scatter(
        x=heads,
        y=layers,
        mode="markers",
        name="not defined",
        showlegend=True,
        customdata=names,
        marker={"symbol": "x-thin", "size": size, "line": {"color": style.GREY, "width": 1}},
        hovertemplate=f"%{{customdata}}: not defined{reason}<extra></extra>",
    )
    return [crosses]


def cells(numbers: np.ndarray, *, downwards: bool = False, most_ticks: int = 16) -> dict[str, Any]:
    """An axis of layers or heads: whole cells, and ticks at each or at even steps of 2, 5, 10, ..."""
    steps = (step * 10**power for power in range(6) for step in (1, 2, 5))
    ends = [int(numbers[0]) - 0.5, int(numbers[-1]) + 0.5]
    tick = next(step for step in steps if len(numbers) <= step * most_ticks)
    return {"range": ends[::-1] if downwards else ends, "tick0": 0, "dtick": tick}
