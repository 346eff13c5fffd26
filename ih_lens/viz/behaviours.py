"""Behaviours of heads against prefix matching: which induction heads do more than copy."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.errors import InputError
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_lines import depth_key
from ih_lens.viz.head_points import head_points
from ih_lens.viz.measure_names import measure_heading, measure_name, measure_unit
from ih_lens.viz.plotly_text import literal

_PANEL, _HEIGHT = 330, 330
"""Pixels."""
_MOST_BASELINES = 60
"""Heads of a panel whose baseline is drawn, those farthest from it."""
_APART = 0.04
"""Of an axis, between heads whose names have room of their own."""
_NAMED_FROM = 0.01
"""Above their baseline; closer heads have nothing to be named for."""
_REMARK = (
    "a stem leads to each head from its baseline: the same measure where nothing relates the text to what is looked at"
)


def plot_behaviours(
    scores: HeadScores, *, behaviours: Sequence[str] | None = None, against: str = "prefix_matching", n_named: int = 3
) -> go.Figure:
    """Each behaviour against prefix matching: a panel per behaviour, a point per head, coloured by depth.

    Args:
        scores: those of a `BehaviourTable`; of the last snapshot where snapshots were stacked.
        behaviours: which; by default all that have a baseline.
        against: the measure to the right.
        n_named: how many heads are named in each panel, those farthest above their baseline.

    Raises:
        InputError: if a measure is missing.

    Examples:
        >>> plot_behaviours(behaviour_table(model).scores)
    """
    names = list(
        behaviours or [name for name in scores.names if f"{name}_excess" in scores.names and _is_share(scores, name)]
    )
    if not names:
        raise InputError(
            "scores: expected those of behaviours, as behaviour_table(model).scores; got none with a baseline"
        )
    x = last_snapshot(scores[against])
    figure = make_subplots(
        1, len(names), subplot_titles=[literal(measure_heading(name)) for name in names], horizontal_spacing=0.09
    )
    for column, name in enumerate(names, start=1):
        y, baseline = last_snapshot(scores[name]), last_snapshot(scores[f"{name}_baseline"])
        titles = measure_name(against), measure_name(name)
        traces = [*_stems(x, y, baseline), *head_points(measure_heading(name), x, y, titles=titles)]
        figure.add_traces(traces, rows=[1] * len(traces), cols=[column] * len(traces))
        _name_heads(figure, x, y, y - baseline, column, n_named)
        figure.update_xaxes(
            title=literal(f"{measure_name(against)} ({measure_unit(x)})"), range=_range(x), row=1, col=column
        )
        figure.update_yaxes(
            title=literal(f"attention ({measure_unit(y)})"), range=_range(y, baseline), row=1, col=column
        )
    figure.add_trace(depth_key(), row=1, col=1)
    title = f"What heads do on text, against {measure_name(against)}"
    frame(figure, title, width=_PANEL * len(names), height=_HEIGHT, remarks=[_REMARK], more_top=18)
    return figure


def _is_share(scores: HeadScores, name: str) -> bool:
    """Whether a measure is attention, and not logits."""
    return "range" in scores[name].attrs


def _stems(x: xr.DataArray, y: xr.DataArray, baseline: xr.DataArray) -> list[go.Scatter]:
    """From the baseline of a head to the head, where they are farthest apart."""
    columns = [values.to_numpy().ravel() for values in (x, y, baseline)]
    known = np.isfinite(columns).all(axis=0)
    right, top, bottom = (column[known] for column in columns)
    order = np.argsort(-np.abs(top - bottom), kind="stable")[:_MOST_BASELINES]
    gap = np.full(len(order), np.nan)
    xs = np.stack([right[order], right[order], gap], axis=1).ravel()
    ys = np.stack([bottom[order], top[order], gap], axis=1).ravel()
    line, marker = {"color": style.FAINT, "width": 1}, {"symbol": "line-ew", "size": [8, 0, 0] * len(order)}
    marker |= {"line": {"color": style.GREY, "width": 1}}
    return [
        go.Scatter(
            x=xs,
            y=ys,
            mode="lines+markers",
            line=line,
            marker=marker,
            showlegend=False,
            hoverinfo="skip",
            name="baseline",
        )
    ]


def _name_heads(
    figure: go.Figure, x: xr.DataArray, y: xr.DataArray, excess: xr.DataArray, column: int, n_named: int
) -> None:
    """The names of the heads that are farthest above their baseline; one line for those that cover each other."""
    flat = excess.to_numpy().ravel()
    order = np.argsort(-flat, kind="stable")[:n_named]
    best = [np.unravel_index(place, excess.shape) for place in order if flat[place] >= _NAMED_FROM]
    height = _range(y)[1]
    lines: list[tuple[float, float, list[str]]] = []
    for layer, head in best:
        name = str(HeadIndex(int(layer), int(head)))
        right, top = float(x.to_numpy()[layer, head]), float(y.to_numpy()[layer, head])
        near = [line for line in lines if abs(line[0] - right) < _APART and abs(line[1] - top) < _APART * height]
        if near:
            near[0][2].append(name)
        else:
            lines.append((right, top, [name]))
    for right, top, names in lines:
        to_the_left = right > 0.5
        figure.add_annotation(
            text=", ".join(names),
            x=right,
            y=top,
            xshift=-6 if to_the_left else 6,
            xanchor="right" if to_the_left else "left",
            showarrow=False,
            font={"size": 11},
            row=1,
            col=column,
        )


def _range(*values: xr.DataArray) -> list[float]:
    """From 0 to a little above the largest, not less than a twentieth of all attention."""
    numbers = np.concatenate([of.to_numpy().ravel() for of in values])
    largest = float(np.nanmax(numbers)) if np.isfinite(numbers).any() else 1.0
    top = 1.06 * max(largest, 0.05)
    return [-0.03 * top, top]
