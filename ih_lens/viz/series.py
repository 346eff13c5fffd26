"""One line per model over training: the loss and the in-context learning score."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.basedatatypes import BaseTraceType

from ih_lens.viz import style
from ih_lens.viz.grid import (
    NOT_DEFINED,
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


def plot_loss(losses: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False) -> go.Figure:
    """Mean loss over training, one panel per model.

    Args:
        losses: result of `loss_curve` [snapshot] per model, in nats; None where it was not measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels that share their axes, with two standard errors to both sides where they are known.

    Examples:
        >>> plot_loss({"2L": loss_curve(losses)}, phase_changes={"2L": (2.5e6, 4e6)})
    """
    shared = RowLayout("Loss over training", "tokens elapsed", "loss (nats)", over_training(log_tokens))
    return _draw_lines(losses, shared, "loss", phase_changes, log_tokens)


def plot_in_context_learning(
    scores: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False
) -> go.Figure:
    """In-context learning score over training, one panel per model.

    Args:
        scores: result of `in_context_learning_score` [snapshot] per model, in nats; None where not measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels that share their axes, with two standard errors to both sides where they are known.

    Examples:
        >>> plot_in_context_learning({"2L": in_context_learning_score(losses)})
    """
    shared = RowLayout("In-context learning score", "tokens elapsed", "score (nats)", over_training(log_tokens))
    return _draw_lines(scores, shared, "score", phase_changes, log_tokens)


def _draw_lines(results: Results, shared: RowLayout, what: str, bands: Bands | None, log_tokens: bool) -> go.Figure:
    panels = {name: _line_panel(name, values, what, log_tokens) for name, values in results.items()}
    return draw_row(panels, shared, bands=bands)


def _line_panel(name: str, values: xr.DataArray | None, what: str, log_tokens: bool) -> Panel:
    """One model's line, above its band of uncertainty."""
    if values is None:
        return NOT_MEASURED
    if bool(values.isnull().all()):
        return NOT_DEFINED
    shown = drawable(values, log_tokens)
    line = go.Scatter(
        x=tokens_elapsed(shown),
        y=shown.to_numpy(),
        mode="lines",
        line={"color": style.LINE, "width": 2},
        name=name,
        showlegend=False,
        hovertemplate=f"%{{x}} tokens<br>{what} %{{y:.3f}} nats",
    )
    return Panel([*_uncertainty(shown), line], begins=begins(values, log_tokens))


def _uncertainty(values: xr.DataArray) -> list[BaseTraceType]:
    """Two standard errors to both sides as one filled outline, where standard errors are known."""
    if "stderr" not in values.coords or bool(values["stderr"].isnull().any()):
        return []
    tokens, middle, error = tokens_elapsed(values), values.to_numpy(), 2 * values["stderr"].to_numpy()
    return [
        go.Scatter(
            x=np.concatenate([tokens, tokens[::-1]]),
            y=np.concatenate([middle + error, (middle - error)[::-1]]),
            fill="toself",
            fillcolor="rgba(31, 59, 99, 0.18)",
            line={"width": 0},
            mode="lines",
            name="± 2 standard errors",
            showlegend=False,
            hoverinfo="skip",
        )
    ]
