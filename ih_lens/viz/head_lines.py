"""One model's panel with a line per attention head, coloured by depth or by type."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import sample_colorscale

from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.grid import NOT_DEFINED, Panel, begins, drawable, tokens_elapsed


class HeadLook(NamedTuple):
    """How one head's line is drawn; lines of a higher rank come on top."""

    label: str
    colour: str
    dash: str
    rank: int


def depth_panel(values: xr.DataArray, log_tokens: bool) -> Panel:
    """Heads [snapshot, layer, head] coloured from the first layer to the last."""
    n_layers = values.sizes["layer"]

    def look(head: HeadIndex) -> HeadLook:
        depth = head.layer / max(n_layers - 1, 1)
        return HeadLook("", str(sample_colorscale(style.DEPTH_SCALE, depth)[0]), "solid", head.layer)

    return _head_panel(values, look, log_tokens)


def type_panel(values: xr.DataArray, types: xr.DataArray | None, log_tokens: bool) -> Panel:
    """Heads [snapshot, layer, head] coloured by type [layer, head]; without types all are "other"."""
    heads = (values.sizes["layer"], values.sizes["head"])
    names = np.full(heads, "other") if types is None else types.transpose("layer", "head").to_numpy()
    if names.shape != heads:
        raise InputError(f"types of {names.shape} heads for a measure of {heads}; take both from one model")
    if unknown := set(map(str, names.flat)) - set(style.HEAD_TYPES):
        raise InputError(f"unknown types of heads {sorted(unknown)}; expected {', '.join(style.HEAD_TYPES)}")
    ranks = list(style.HEAD_TYPES)

    def look(head: HeadIndex) -> HeadLook:
        return HeadLook(*style.HEAD_TYPES[names[head]], rank=ranks.index(names[head]))

    return _head_panel(values, look, log_tokens)


def depth_key() -> go.Scatter:
    """A colour bar from the first to the last layer."""
    bar = style.colour_bar("depth of layer", tickvals=[0, 1], ticktext=["first", "last"])
    marker = {"color": [0.0], "cmin": 0, "cmax": 1, "colorscale": style.DEPTH_SCALE, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip")


def type_keys() -> list[go.Scatter]:
    """The legend of head types, the most important first."""
    return [
        go.Scatter(
            x=[None], y=[None], mode="lines", line={"color": colour, "dash": dash}, name=label, legendgroup=label
        )
        for label, colour, dash in reversed(style.HEAD_TYPES.values())
    ]


def _head_panel(values: xr.DataArray, look: Callable[[HeadIndex], HeadLook], log_tokens: bool) -> Panel:
    """A line for every head that is defined at some snapshot."""
    shown = drawable(values, log_tokens).transpose("snapshot", "layer", "head")
    tokens, numbers = tokens_elapsed(shown), shown.to_numpy()
    places = np.argwhere(~np.isnan(numbers).all(axis=0))
    heads = sorted((HeadIndex(*map(int, place)) for place in places), key=lambda head: look(head).rank)
    lines = [_head_line(head, tokens, numbers[:, head.layer, head.head], look(head)) for head in heads]
    return Panel(lines, begins=begins(values, log_tokens)) if lines else NOT_DEFINED


def _head_line(head: HeadIndex, tokens: np.ndarray, numbers: np.ndarray, look: HeadLook) -> go.Scatter:
    """One head; hovering names it."""
    kind = f" ({look.label})" if look.label else ""
    return go.Scatter(
        x=tokens,
        y=numbers,
        mode="lines",
        line={"color": look.colour, "dash": look.dash, "width": 1.4},
        name=str(head),
        legendgroup=look.label or None,
        showlegend=False,
        hovertemplate=f"{head}{kind}<br>%{{x}} tokens<br>%{{y:.3g}}<extra></extra>",
    )
