"""Copying and prefix matching of heads together, with the thresholds that make types of heads of them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.subplots import make_subplots

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.results import HeadScores
from ih_lens.validate import one_of
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_lines import depth_key
from ih_lens.viz.head_points import BY_DEPTH, head_points, of_each_model, point_looks
from ih_lens.viz.opaque import TRANSLUCENT, Opaque, chosen_opaque, some_translucent

_WIDTH, _HEIGHT, _PER_MODEL = 620, 480, 19
"""Pixels; the last of an entry in the legend."""
_BIN = 0.05
_X_RANGE, _Y_RANGE = (-1.06, 1.06), (-0.03, 1.06)
_TITLES = ("copying", "prefix matching")


def plot_joint_scores(
    scores: Mapping[str, HeadScores],
    *,
    colour: str | None = None,
    prefix_matching: float = 0.3,
    copying: float = 0.0,
    opaque: Opaque = True,
) -> go.Figure:
    """Copying against prefix matching of every head of one or many models, and how each of them is distributed.

    Dashed lines are the thresholds of `head_types`. Above them, heads to the right are induction heads, and heads in
    the upper left corner, which is marked, match prefixes but lower the probability of what they attend to.

    Args:
        scores: per model, with the measures prefix_matching and copying; the last snapshot counts where snapshots
            were stacked.
        colour: what colours tell: "depth" of the head's layer, or "model"; by default the latter where there are
            several.
        prefix_matching: threshold, as in `head_types`.
        copying: threshold, as in `head_types`.
        opaque: which heads are opaque, as in `plot_heads_by_depth`; True goes by prefix matching. Histograms and
            numbers of heads are of all.

    Raises:
        InputError: if there is no model, or one lacks a measure.

    Examples:
        >>> plot_joint_scores({"gpt2": scores})
    """
    by = one_of("colour", colour or ("model" if len(of_each_model(scores)) > 1 else "depth"), ["depth", "model"])
    both = {name: (last_snapshot(s["copying"]), last_snapshot(s["prefix_matching"])) for name, s in scores.items()}
    looks = point_looks(list(both))
    samples = {name: chosen_opaque(opaque, name, matches) for name, (_, matches) in both.items()}
    figure = make_subplots(
        2, 2, shared_xaxes=True, shared_yaxes=True, column_widths=[0.82, 0.18], row_heights=[0.2, 0.8],
        horizontal_spacing=0.02, vertical_spacing=0.025,
    )  # fmt: skip
    _mark_corners(figure, both, prefix_matching, copying)
    for name, (copies, matches) in both.items():
        look = looks[name] if by == "model" else BY_DEPTH
        points = head_points(
            name, copies, matches, titles=_TITLES, look=look, opaque=samples[name], legend=by == "model"
        )
        figure.add_traces(points, rows=[2] * len(points), cols=[1] * len(points))
    if by == "depth":
        figure.add_trace(depth_key(), row=2, col=1)
    remarks = [TRANSLUCENT] if some_translucent(samples.values()) else []
    _lay_out(figure, _add_histograms(figure, both))
    figure.update_layout(bargap=0, showlegend=by == "model")
    height = max(_HEIGHT, _PER_MODEL * len(scores)) if by == "model" else _HEIGHT
    frame(figure, "Copying and prefix matching of each head", width=_WIDTH, height=height, remarks=remarks)
    return figure


def _mark_corners(
    figure: go.Figure, both: Mapping[str, tuple[xr.DataArray, xr.DataArray]], prefix_matching: float, copying: float
) -> None:
    """Lines at the thresholds, the anti-copying corner on a ground of its own, and the heads in both corners."""
    copies, matches = (np.concatenate([pair[n].to_numpy().ravel() for pair in both.values()]) for n in (0, 1))
    inside = matches >= prefix_matching
    label, ground, _ = style.HEAD_TYPES["anti_copying_prefix_matching"]
    axes: dict[str, Any] = {"row": 2, "col": 1}
    corner = {"x0": _X_RANGE[0], "x1": -copying, "y0": prefix_matching, "y1": _Y_RANGE[1]}
    figure.add_shape(
        type="rect", name="anti-copying", fillcolor=ground, opacity=0.13, line_width=0, layer="below", **corner, **axes
    )
    line = {"color": style.GREY, "dash": "dash", "width": 1}
    figure.add_hline(prefix_matching, line=line, layer="below", **axes)
    for threshold in {-copying, copying}:
        figure.add_vline(threshold, line=line, layer="below", **axes)
    texts = {
        "left": (_X_RANGE[0], f"{label.replace('<br>', ' ')}: {_heads(inside & (copies < -copying))}"),
        "right": (_X_RANGE[1], f"{style.HEAD_TYPES['induction'][0]}: {_heads(inside & (copies > copying))}"),
    }
    for side, (x, text) in texts.items():
        figure.add_annotation(
            text=text, x=x, y=_Y_RANGE[1], xanchor=side, yanchor="top", showarrow=False, font={"size": 11}, **axes
        )


def _heads(chosen: np.ndarray) -> str:
    n_heads = int(chosen.sum())
    return "1 head" if n_heads == 1 else f"{n_heads} heads"


def _add_histograms(figure: go.Figure, both: Mapping[str, tuple[xr.DataArray, xr.DataArray]]) -> tuple[int, int]:
    """How many heads of all models have which copying (above) and which prefix matching (beside); the highest bars."""
    copies, matches = (np.concatenate([pair[n].to_numpy().ravel() for pair in both.values()]) for n in (0, 1))
    look = {"marker": {"color": style.PALE, "line": {"width": 0}}, "showlegend": False}
    middles, above = _histogram(copies, -1.0)
    hover = f"copying %{{x:.3f}} ± {_BIN / 2}: %{{y}} heads<extra></extra>"
    figure.add_trace(go.Bar(x=middles, y=above, width=_BIN, hovertemplate=hover, **look), row=1, col=1)
    middles, beside = _histogram(matches, 0.0)
    hover = f"prefix matching %{{y:.3f}} ± {_BIN / 2}: %{{x}} heads<extra></extra>"
    bars = go.Bar(x=beside, y=middles, width=_BIN, orientation="h", hovertemplate=hover, **look)
    figure.add_trace(bars, row=2, col=2)
    return int(above.max()), int(beside.max())


def _histogram(numbers: Float[np.ndarray, "n"], low: float) -> tuple[Float[np.ndarray, "bins"], np.ndarray]:
    """Middles of bins from `low` to 1, and how many numbers each holds."""
    edges = np.linspace(low, 1.0, round((1.0 - low) / _BIN) + 1)
    counts, _ = np.histogram(numbers[np.isfinite(numbers)], edges)
    return (edges[:-1] + edges[1:]) / 2, counts


def _lay_out(figure: go.Figure, most: tuple[int, int]) -> None:
    """Ranges and titles of the axes that show something; `most` are the highest bars above and beside."""
    figure.update_xaxes(title="copying (-1 to 1)", range=_X_RANGE, row=2, col=1)
    figure.update_yaxes(title="prefix matching (0 to 1)", range=_Y_RANGE, row=2, col=1)
    count: dict[str, Any] = {
        "title": "number of heads",
        "type": "log",
        "dtick": 1,
        "exponentformat": "none",
        "tickangle": 0,
    }
    figure.update_yaxes(**count, range=_count_range(most[0]), row=1, col=1)
    figure.update_xaxes(**count, range=_count_range(most[1]), row=2, col=2)
    figure.update_xaxes(range=_X_RANGE, row=1, col=1)
    figure.update_yaxes(range=_Y_RANGE, row=2, col=2)
    hidden = {"visible": False}
    figure.update_xaxes(**hidden, row=1, col=2)
    figure.update_yaxes(**hidden, row=1, col=2)


def _count_range(most: int) -> list[float]:
    """A logarithmic axis on which a single head shows."""
    return [-0.3, math.log10(max(most, 1)) + 0.15]
