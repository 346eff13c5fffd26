"""One line per model over training: the loss, its difference to another model's, and the in-context learning score."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.basedatatypes import BaseTraceType

from ih_lens.analysis.convexity import NonConvexSpan
from ih_lens.viz import style
from ih_lens.viz.bump import bump_key, bump_traces
from ih_lens.viz.grid import (
    NOT_DEFINED,
    NOT_MEASURED,
    Bands,
    Panel,
    Results,
    RowLayout,
    begins,
    check_names,
    draw_row,
    drawable,
    over_training,
    tokens_elapsed,
)
from ih_lens.viz.plotly_text import literal


def plot_loss(
    losses: Results,
    *,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
    bumps: Mapping[str, Sequence[NonConvexSpan]] | None = None,
) -> go.Figure:
    """Mean loss over training, one panel per model.

    Args:
        losses: result of `loss_curve` [snapshot] per model, in nats; None where it was not measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.
        bumps: result of `non_convex_spans` per model: where the curve is not convex, the line below it is drawn
            broken, and what lies between is filled.

    Returns:
        A row of panels that share their axes, with two standard errors to both sides where they are known.

    Raises:
        InputError: if there are bumps of a model that is not drawn.

    Examples:
        >>> plot_loss({"2L": loss_curve(losses)}, bumps={"2L": non_convex_spans(losses)})
    """
    keys = [bump_key()] if any((bumps or {}).values()) else []
    shared = RowLayout("Loss over training", "tokens elapsed", "loss (nats)", over_training(log_tokens), keys=keys)
    check_names(losses, bumps or {}, "bumps")
    panels = {name: _line_panel(name, values, "loss", log_tokens) for name, values in losses.items()}
    for name, spans in (bumps or {}).items():
        curve = losses[name]
        if curve is not None:
            below = [trace for span in spans for trace in bump_traces(drawable(curve, log_tokens), span)]
            panels[name] = replace(panels[name], traces=[*below, *panels[name].traces])
    return draw_row(panels, shared, bands=phase_changes)


def plot_loss_divergence(
    differences: Results, *, reference: str, phase_changes: Bands | None = None, log_tokens: bool = False
) -> go.Figure:
    """How far each model's loss lies from another's over training, one panel per model.

    The paper compares with the one-layer model, from which the others' curves diverge in the phase change.

    Args:
        differences: result of `loss_difference` [snapshot] per model, in nats; None where it was not measured.
        reference: the name of the model whose loss was subtracted, for the heading.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels that share their axes, with two paired standard errors to both sides where they are known,
        and a broken line at zero.

    Examples:
        >>> plot_loss_divergence({"2L": loss_difference(losses_2L, losses_1L)}, reference="1L")
    """
    shared = RowLayout(
        f"Loss minus that of {reference}", "tokens elapsed", "difference (nats)", over_training(log_tokens)
    )
    panels = {name: _line_panel(name, values, "difference", log_tokens) for name, values in differences.items()}
    for name, values in differences.items():
        if values is not None and panels[name].traces:
            ends = tokens_elapsed(drawable(values, log_tokens))[[0, -1]]
            panels[name] = replace(panels[name], traces=[_zero(ends), *panels[name].traces])
    return draw_row(panels, shared, bands=phase_changes)


def _zero(ends: np.ndarray) -> go.Scatter:
    """A broken line where there is no difference."""
    line = {"color": style.GREY, "width": 1, "dash": "dash"}
    return go.Scatter(x=ends, y=[0, 0], mode="lines", line=line, name="none", showlegend=False, hoverinfo="skip")


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
        name=literal(name),
        showlegend=False,
        hovertemplate=f"%{{x}} tokens<br>{what} %{{y:.3f}} nats",
    )
    return Panel([*uncertainty_band(shown), line], begins=begins(values, log_tokens))


def uncertainty_band(values: xr.DataArray, colour: str = style.LINE) -> list[BaseTraceType]:
    """Two standard errors to both sides as one filled outline, where standard errors are known."""
    if "stderr" not in values.coords or bool(values["stderr"].isnull().any()):
        return []
    tokens, middle, error = tokens_elapsed(values), values.to_numpy(), 2 * values["stderr"].to_numpy()
    return [
        go.Scatter(
            x=np.concatenate([tokens, tokens[::-1]]),
            y=np.concatenate([middle + error, (middle - error)[::-1]]),
            fill="toself",
            fillcolor=style.translucent(colour, 0.18),
            line={"width": 0},
            mode="lines",
            name="± 2 standard errors",
            showlegend=False,
            hoverinfo="skip",
        )
    ]
