"""Loss curves with their spikes."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.loss_spikes import running_median
from ih_lens.viz import style
from ih_lens.viz.grid import (
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

_SPIKE = {"color": style.CATEGORIES[1], "size": 9, "symbol": "diamond-open", "line": {"width": 2}}
_MEDIAN = {"color": style.CATEGORIES[4], "width": 1.5, "dash": "dash"}


def plot_loss_spikes(
    curves: Results,
    spikes: Mapping[str, pd.DataFrame],
    *,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
) -> go.Figure:
    """Mean loss over training with its running median, and a mark on every spike; a panel per model.

    Args:
        curves: result of `loss_curve` [snapshot] per model; None where it was not measured.
        spikes: result of `loss_spikes` per model; its `width` is that of the median drawn.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Raises:
        InputError: if there are spikes of a model that is not drawn.

    Examples:
        >>> plot_loss_spikes({"6L": loss_curve(losses)}, {"6L": loss_spikes(losses)})
    """
    check_names(curves, spikes, "spikes")
    panels = {name: _panel(curve, spikes.get(name), log_tokens) for name, curve in curves.items()}
    nothing = {"x": [None], "y": [None]}
    keys = [
        go.Scatter(**nothing, mode="lines", line=_MEDIAN, name="running median"),
        go.Scatter(**nothing, mode="markers", marker=_SPIKE, name="loss spike"),
    ]
    shared = RowLayout("Loss spikes", "tokens elapsed", "loss (nats)", over_training(log_tokens), keys=keys)
    return draw_row(panels, shared, bands=phase_changes)


def _panel(curve: xr.DataArray | None, spikes: pd.DataFrame | None, log_tokens: bool) -> Panel:
    """One model's curve."""
    if curve is None:
        return NOT_MEASURED
    shown = drawable(curve, log_tokens)
    look = {"mode": "lines", "showlegend": False, "hovertemplate": "%{x} tokens<br>%{y:.3f} nats<extra></extra>"}
    traces = [go.Scatter(x=tokens_elapsed(shown), y=shown, line={"color": style.LINE, "width": 2}, **look)]
    if spikes is not None:
        median = drawable(running_median(curve, width=int(spikes.attrs["width"])), log_tokens)
        traces.append(go.Scatter(x=tokens_elapsed(median), y=median, line=_MEDIAN, **look))
        texts = [f"{height:.3f} nats above<br>{scatters:.0f} times the scatter" for height, scatters in _sizes(spikes)]
        points = {"mode": "markers", "marker": _SPIKE, "text": texts, "showlegend": False}
        traces.append(
            go.Scatter(x=spikes["tokens_elapsed"], y=spikes["loss"], hovertemplate="%{text}<extra></extra>", **points)
        )
    return Panel(traces, begins=begins(curve, log_tokens))


def _sizes(spikes: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(spikes["height"].astype(float), spikes["scatters"].astype(float), strict=True))
