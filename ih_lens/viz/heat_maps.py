"""Heat maps over training and context index: the loss, and its derivative."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.viz import style
from ih_lens.viz.grid import (
    NOT_MEASURED,
    Bands,
    Panel,
    Results,
    RowLayout,
    begins,
    draw_row,
    drawable,
    over_training,
    tokens_elapsed,
)
from ih_lens.viz.plotly_text import literal

MOST_ROWS = 120
"""Rows of a map up to which each context index has its own."""

INDEX_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000]


def plot_loss_by_context_index(
    losses: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False
) -> go.Figure:
    """Loss as colour, training to the right, context index upwards on a logarithmic axis; one panel per model.

    Args:
        losses: result of `loss_by_context_index` [snapshot, context_index] per model, in nats; None where it was
            not measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels with one colour scale, from the lowest to the highest loss of all models. Of more than 120
        indices, neighbours are averaged in steps of equal width in ln(context index), as they are drawn.

    Examples:
        >>> plot_loss_by_context_index({"2L": loss_by_context_index(losses)})
    """
    colours: dict[str, Any] = {"colorscale": style.LOSS_SCALE, "colorbar": style.colour_bar("loss (nats)")}
    return _draw_maps(losses, "Loss by context index", "loss %{z:.3f} nats", colours, phase_changes, log_tokens)


def plot_loss_derivative(
    derivatives: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False
) -> go.Figure:
    """Derivative of the loss with respect to ln(context index) as colour; one panel per model.

    Negative values (more context lowers the loss) are purple, positive ones green, and zero is white. Of more than
    120 indices, neighbours are averaged in steps of equal width in ln(context index). The scale ends at the 95th
    percentile of the magnitudes that are drawn, because those of the first indices can be ten times the rest; the
    values beyond have its last colours.

    Args:
        derivatives: result of `loss_derivative` [snapshot, context_index] per model, in nats; None where it was
            not measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels with one colour scale.

    Examples:
        >>> plot_loss_derivative({"2L": loss_derivative(losses)})
    """
    drawn = {name: None if values is None else _rows(values) for name, values in derivatives.items()}
    end = _scale_end(drawn)
    bar = style.colour_bar("nats per e-fold of context")
    colours: dict[str, Any] = {"colorscale": style.DERIVATIVE_SCALE, "cmin": -end, "cmax": end, "colorbar": bar}
    title = "Derivative of the loss with respect to ln(context index)"
    return _draw_maps(drawn, title, "derivative %{z:.3f} nats", colours, phase_changes, log_tokens)


def _scale_end(derivatives: Results) -> float:
    """A symmetric end of the colour scale that single extreme cells do not stretch."""
    magnitudes = [np.abs(values.to_numpy()).ravel() for values in derivatives.values() if values is not None]
    known = np.concatenate([*magnitudes, np.zeros(1)])
    return float(np.nanquantile(known, 0.95)) or 1.0


def _draw_maps(
    results: Results,
    title: str,
    hover: str,
    colours: dict[str, Any],
    bands: Bands | None,
    log_tokens: bool,
) -> go.Figure:
    panels = {
        name: NOT_MEASURED if values is None else _map_panel(name, values, hover, log_tokens)
        for name, values in results.items()
    }
    shared = RowLayout(
        title,
        "tokens elapsed",
        "context index (tokens)",
        x_axis=over_training(log_tokens),
        y_axis={"type": "log", "tickvals": INDEX_TICKS},
        layout={"coloraxis": colours},
        band=style.BAND_ON_MAP,
    )
    return draw_row(panels, shared, bands=bands)


def _map_panel(name: str, values: xr.DataArray, hover: str, log_tokens: bool) -> Panel:
    """One model's map; single precision, which halves what the page carries."""
    shown = _rows(drawable(values, log_tokens)).transpose("context_index", "snapshot")
    cells = go.Heatmap(
        x=tokens_elapsed(shown),
        y=shown["context_index"].to_numpy(),
        z=shown.to_numpy().astype(np.float32),
        coloraxis="coloraxis",
        name=literal(name),
        hovertemplate=f"{literal(name)}<br>%{{x}} tokens<br>context index %{{y:.4~g}}<br>{hover}<extra></extra>",
    )
    return Panel([cells], begins=begins(values, log_tokens))


def _rows(values: xr.DataArray) -> xr.DataArray:
    """Losses as rows that are at least a pixel high: neighbouring indices averaged where there are too many.

    The mean is weighted by each index's width in the logarithm, so that the mean of derivatives is the derivative
    across the row. A row is labelled by the geometric middle of its indices.
    """
    indices = values["context_index"].to_numpy().astype(np.float64)
    if len(indices) <= MOST_ROWS:
        return values
    logarithms = np.log(indices)
    step = (logarithms[-1] - logarithms[0]) / MOST_ROWS
    row = np.minimum(((logarithms - logarithms[0]) / step).astype(int), MOST_ROWS - 1)
    _, row = np.unique(row, return_inverse=True)
    widths = np.gradient(logarithms)
    shares = np.zeros((row.max() + 1, len(indices)))
    shares[row, np.arange(len(indices))] = widths
    shares /= shares.sum(axis=1, keepdims=True)
    means = values.transpose(..., "context_index").to_numpy() @ shares.T
    dims = [dim for dim in values.dims if dim != "context_index"]
    kept = {name: coord for name, coord in values.coords.items() if "context_index" not in coord.dims}
    middles = np.exp(shares @ logarithms)
    return xr.DataArray(means, dims=[*dims, "context_index"], coords={**kept, "context_index": middles})
