"""Where a loss curve is not convex, drawn on the curve."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.basedatatypes import BaseTraceType

from ih_lens.analysis.convexity import NonConvexSpan
from ih_lens.viz import style
from ih_lens.viz.grid import tokens_elapsed

_COLOUR = style.CATEGORIES[3]
_FILL, _ALONG = "rgba(182, 87, 155, 0.35)", "rgba(182, 87, 155, 0.8)"


def bump_traces(curve: xr.DataArray, span: NonConvexSpan) -> list[BaseTraceType]:
    """The line below the curve [snapshot] and what lies between the two, at the snapshots that are drawn."""
    tokens = tokens_elapsed(curve)
    inside = (tokens >= span.start) & (tokens <= span.end)
    at, above = tokens[inside], curve.to_numpy()[inside]
    if not len(at):
        return []
    ends = np.array([span.start, span.end])
    places = (np.log(at), np.log(ends)) if span.per == "log_tokens" else (at, ends)
    line = np.interp(*places, [span.start_loss, span.end_loss])
    between = go.Scatter(
        x=np.concatenate([at, at[::-1]]),
        y=np.concatenate([above, line[::-1]]),
        fill="toself",
        fillcolor=_FILL,
        line={"width": 0},
        mode="lines",
        name="not convex",
        showlegend=False,
        hoverinfo="skip",
    )
    text = (
        f"not convex: at {span.top:,.0f} tokens {span.height:.3f} ± {2 * span.stderr:.3f} nats above this line"
        "<extra></extra>"
    )
    below = go.Scatter(x=at, y=line, showlegend=False, hovertemplate=text, **_LINE)
    along = go.Scatter(
        x=at,
        y=above,
        mode="lines",
        line={"color": _ALONG, "width": 7},  # so that a low bump on a high curve is seen too
        name="not convex",
        showlegend=False,
        hoverinfo="skip",
    )
    return [between, along, below]


_LINE = {"mode": "lines", "line": {"color": _COLOUR, "width": 1.4, "dash": "dash"}, "name": "not convex"}


def bump_key() -> go.Scatter:
    """The entry in the legend."""
    return go.Scatter(x=[None], y=[None], hoverinfo="skip", **_LINE)
