"""Results made from numbers, as the analyses would label them."""

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr

import ih_lens as ih

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


def all_scores(n_layers: int, n_heads: int, seed: int = 0) -> ih.HeadScores:
    """Every measure of every head, within its range; no trace in layer 0."""
    generator = np.random.default_rng(seed)
    matches, copies, before, eigenvalues, trace = generator.random((5, n_layers, n_heads))
    trace[0] = np.nan
    ranges: dict[str, tuple[float, float]] = dict.fromkeys(("prefix_matching", "previous_token"), (0.0, 1.0))
    ranges |= dict.fromkeys(("copying", "ov_copying_eigenvalues"), (-1.0, 1.0))
    measures = {
        "prefix_matching": matches**3,
        "copying": 2 * copies - 1,
        "previous_token": before**4,
        "ov_copying_eigenvalues": np.clip(2 * copies - 1 + 0.3 * (eigenvalues - 0.5), -1, 1),
        "qk_eigenvalue_trace": 30 * matches**3 + 4 * (trace - 0.5),
    }
    tensors = {name: torch.as_tensor(values) for name, values in measures.items()}
    return ih.HeadScores.from_tensors(tensors, attributes={name: {"range": ends} for name, ends in ranges.items()})
