"""One model's panel with a line per attention head, coloured by depth or by type."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Bool
from plotly.colors import sample_colorscale

from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.grid import NOT_DEFINED, Panel, begins, drawable, tokens_elapsed
from ih_lens.viz.opaque import TRANSLUCENT

_TRANSLUCENCY = 0.22
"""Opacity of the lines that are not opaque."""


class HeadLook(NamedTuple):
    """How one head's line is drawn; lines of a higher rank come on top."""

    label: str
    colour: str
    dash: str
    rank: int


def depth_panel(values: xr.DataArray, opaque: xr.DataArray | None, log_tokens: bool) -> Panel:
    """Heads [snapshot, layer, head] coloured from the first layer to the last; without a choice all are opaque."""
    n_layers = values.sizes["layer"]

    def look(head: HeadIndex) -> HeadLook:
        depth = head.layer / max(n_layers - 1, 1)
        return HeadLook("", str(sample_colorscale(style.DEPTH_SCALE, depth)[0]), "solid", head.layer)

    return _head_panel(values, opaque, look, log_tokens)


def type_panel(
    values: xr.DataArray, types: xr.DataArray | None, opaque: xr.DataArray | None, log_tokens: bool
) -> Panel:
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

    return _head_panel(values, opaque, look, log_tokens)


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


def _head_panel(
    values: xr.DataArray, opaque: xr.DataArray | None, look: Callable[[HeadIndex], HeadLook], log_tokens: bool
) -> Panel:
    """A line for every head that is defined at some snapshot; those that are not opaque lie below, together."""
    shown = drawable(values, log_tokens).transpose("snapshot", "layer", "head")
    tokens, numbers = tokens_elapsed(shown), shown.to_numpy()
    heads = [HeadIndex(*map(int, place)) for place in np.argwhere(~np.isnan(numbers).all(axis=0))]
    if not heads:
        return NOT_DEFINED
    stands_out = _checked(opaque, numbers.shape[1:])
    behind: dict[tuple[HeadLook, int], list[int]] = {}
    for head in heads:
        if not stands_out[head]:
            behind.setdefault((look(head), head.layer), []).append(head.head)
    lines = [
        _translucent_lines(layer, members, tokens, numbers[:, layer, members], its_look)
        for (its_look, layer), members in sorted(behind.items(), key=lambda entry: entry[0][0].rank)
    ]
    in_front = sorted((head for head in heads if stands_out[head]), key=lambda head: look(head).rank)
    lines += [_head_line(head, tokens, numbers[:, head.layer, head.head], look(head)) for head in in_front]
    return Panel(lines, begins=begins(values, log_tokens), remark=TRANSLUCENT if behind else "")


def _checked(opaque: xr.DataArray | None, shape: tuple[int, ...]) -> Bool[np.ndarray, "layer head"]:
    """Which heads are opaque, all of them without a choice."""
    if opaque is None:
        return np.ones(shape, dtype=bool)
    chosen = opaque.transpose("layer", "head").to_numpy().astype(bool)
    if chosen.shape != shape:
        raise InputError(
            f"opaque: expected {shape} heads, as the measure has, got {chosen.shape}; take both from one model"
        )
    return chosen


def _head_line(head: HeadIndex, tokens: np.ndarray, numbers: np.ndarray, look: HeadLook) -> go.Scatter:
    """One head; hovering names it."""
    return go.Scatter(
        x=tokens,
        y=numbers,
        name=str(head),
        hovertemplate=_hover(str(head), look),
        **_line(look),
    )


def _translucent_lines(
    layer: int, heads: list[int], tokens: np.ndarray, numbers: np.ndarray, look: HeadLook
) -> go.Scatter:
    """Heads of one layer as one trace of small numbers, which a page of a thousand heads needs; hovering names each."""
    gaps = np.full((1, len(heads)), np.nan, numbers.dtype)
    return go.Scatter(
        x=np.tile(np.append(tokens, tokens[-1]), len(heads)).astype(np.float32),
        y=np.concatenate([numbers, gaps]).T.ravel().astype(np.float32),
        customdata=np.repeat(np.array(heads, np.uint8 if max(heads) < 256 else np.uint16), len(tokens) + 1),
        name=f"layer {layer}, translucent",
        opacity=_TRANSLUCENCY,
        hovertemplate=_hover(f"L{layer}H%{{customdata}}", look),
        **_line(look),
    )


def _hover(head: str, look: HeadLook) -> str:
    kind = f" ({look.label})" if look.label else ""
    return f"{head}{kind}<br>%{{x}} tokens<br>%{{y:.3g}}<extra></extra>"


def _line(look: HeadLook) -> dict[str, Any]:
    """What the lines of one look share."""
    return {
        "mode": "lines",
        "line": {"color": look.colour, "dash": look.dash, "width": 1.4},
        "legendgroup": look.label or None,
        "showlegend": False,
    }
