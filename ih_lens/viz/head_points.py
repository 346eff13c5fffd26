"""Heads as points: one trace per model, or two where only a sample of its heads is opaque."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.score_by_depth import relative_depth
from ih_lens.errors import InputError
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.plotly_text import literal

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star")
_TRANSLUCENCY = 0.2
_OPACITY = 0.85
"""Of opaque points, so that those below others show."""


class PointLook(NamedTuple):
    """How the heads of one model are marked; without a colour, depth in the model is the colour."""

    symbol: str = "circle"
    colour: str | None = None


BY_DEPTH = PointLook()


def point_looks(names: Sequence[str]) -> dict[str, PointLook]:
    """A colour and a symbol per model; up to 49 models have no pair in common."""
    n_colours, n_symbols = len(style.CATEGORIES), len(_SYMBOLS)
    return {
        name: PointLook(_SYMBOLS[(place + place // n_colours) % n_symbols], style.CATEGORIES[place % n_colours])
        for place, name in enumerate(names)
    }


def head_points(
    model: str,
    x: xr.DataArray,
    y: xr.DataArray,
    *,
    titles: tuple[str, str],
    look: PointLook = BY_DEPTH,
    opaque: xr.DataArray | None = None,
    legend: bool = False,
) -> list[go.Scatter]:
    """The heads of one model with both numbers; those that are not opaque lie below.

    Args:
        model: its name, which hovering shows.
        x: [layer, head].
        y: the same heads.
        titles: of both axes, for hovering.
        look: colour and symbol.
        opaque: [layer, head] of bool; all heads if None.
        legend: whether the model has an entry in the legend.
    """
    stands_out = np.ones(x.shape, dtype=bool) if opaque is None else opaque.transpose("layer", "head").to_numpy()
    if x.shape != y.shape or stands_out.shape != x.shape:
        raise InputError(
            f"{model}: measures of {x.shape} and {y.shape} heads and a choice among {stands_out.shape}; "
            "take all of them from one model"
        )
    known = np.isfinite(x.to_numpy()) & np.isfinite(y.to_numpy())
    depths = np.broadcast_to(relative_depth(x.shape[0])[:, None], x.shape)
    shown = f"{literal(titles[0])}: %{{x:.3f}}<br>{literal(titles[1])}: %{{y:.3f}}<extra></extra>"
    traces: list[go.Scatter] = []
    for chosen, opacity in ((known & ~stands_out, _TRANSLUCENCY), (known & stands_out, _OPACITY)):
        places = np.argwhere(chosen)
        trace = go.Scatter(
            x=x.to_numpy()[chosen],
            y=y.to_numpy()[chosen],
            mode="markers",
            name=literal(model),
            legendgroup=model,
            showlegend=False,
            customdata=[str(HeadIndex(int(layer), int(head))) for layer, head in places],
            hovertemplate=f"{literal(model)} %{{customdata}}<br>{shown}",
            marker={"size": 7, "opacity": opacity, "symbol": look.symbol, **_colour(look, depths[chosen])},
        )
        traces += [trace] if len(places) else []
    return [*traces, *([_key(model, look)] if legend else [])]


def of_each_model(scores: Mapping[str, HeadScores]) -> Mapping[str, HeadScores]:
    """The same, if there is anything to draw."""
    if not scores:
        raise InputError("scores: expected those of at least one model by its name, got none")
    return scores


def _colour(look: PointLook, depths: np.ndarray) -> dict[str, Any]:
    """Colour of the markers."""
    if look.colour is not None:
        return {"color": look.colour}
    return {"color": depths, "cmin": 0, "cmax": 1, "colorscale": style.DEPTH_SCALE}


def _key(model: str, look: PointLook) -> go.Scatter:
    """The model's entry in the legend."""
    marker = {"color": look.colour or style.LINE, "symbol": look.symbol, "size": 8}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=literal(model), legendgroup=model)
