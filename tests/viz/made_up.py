"""Results made from numbers, as the analyses would label them."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

TOKENS = np.array([0, 100, 200, 400, 800])


def over_training(*sizes: int, dims: tuple[str, ...] = (), seed: int = 0, **coords: object) -> xr.DataArray:
    """Random numbers [snapshot, ...] at five snapshots."""
    values = np.random.default_rng(seed).normal(size=(len(TOKENS), *sizes))
    return xr.DataArray(values, dims=("snapshot", *dims), coords={"tokens_elapsed": ("snapshot", TOKENS), **coords})


def heads(n_layers: int, n_heads: int, seed: int = 0) -> xr.DataArray:
    """A measure of heads [snapshot, layer, head]."""
    return over_training(n_layers, n_heads, dims=("layer", "head"), seed=seed)


def axis_number(reference: str | None) -> int:
    """Column of a trace or shape, from 1: plotly writes the first axis without a number, or not at all."""
    return int((reference or "x").split()[0][1:] or 1)


def traces_of(figure: go.Figure, column: int) -> list[go.Scatter]:
    """The traces of a panel that hold data."""
    return [
        trace
        for trace in figure.data
        if axis_number(trace.xaxis) == column and trace.x is not None and not (len(trace.x) == 1 and trace.x[0] is None)
    ]


def bands_of(figure: go.Figure) -> dict[int, tuple[float, float]]:
    """The marked phase changes by column."""
    marked = [shape for shape in figure.layout.shapes if shape.name == "phase change"]
    return {axis_number(shape.xref): (shape.x0, shape.x1) for shape in marked}


def notes_of(figure: go.Figure) -> list[str]:
    """All texts that are written on the figure."""
    return [annotation.text for annotation in figure.layout.annotations]
