"""Heads against kinds of induction: who does what."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.errors import InputError
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.measure_names import measure_name
from ih_lens.viz.plotly_text import literal

_CHOOSING = (
    "prefix_matching",
    "best_offset_attention",
    "duplicate_token",
    "anti_induction",
    "previous_token",
    "nearest_copy",
    "farthest_copy",
    "two_token_prefix",
    "three_token_prefix",
    "four_token_prefix",
    "token_induction",
    "concept_induction",
    "fuzzy_match",
    "attention_to_predicted",
)
"""Columns from left to right; a head is shown if it scores on any of them."""
_BESIDE = ("ov_suppression", "copying")
"""What the heads that are shown write: columns at the right, on which every head scores something."""
_CELL_WIDTH, _CELL_HEIGHT = 46, 21
_NAMES_HEIGHT = 128
_AT_LEAST = 5
"""Heads that are shown where none reaches the threshold."""


def plot_induction_kinds(
    scores: HeadScores,
    *,
    measures: Sequence[str] | None = None,
    threshold: float = 0.3,
    max_heads: int = 40,
    title: str = "Kinds of induction",
) -> go.Figure:
    """A row for each head that scores on any kind of induction, a column for each kind.

    Colours and numbers are scores from -1 to 1; a cross is a score that is not defined. What a head writes (its copying
    score, the ranks of its OV circuit) stands at the right and does not decide which heads are shown.

    Args:
        scores: of `induction_kinds`; the last snapshot counts where snapshots were stacked.
        measures: the columns, and what decides; by default all measures of attention to places that there are.
        threshold: what counts as scoring, in magnitude; 0 to 1. Where no head reaches it, the five strongest are shown.
        max_heads: at most so many heads, the strongest on anything.
        title: heading.

    Raises:
        InputError: if a measure is missing, or leaves the range from -1 to 1.

    Examples:
        >>> plot_induction_kinds(induction_kinds(model))
    """
    choosing = [name for name in _CHOOSING if name in scores.names] if measures is None else list(measures)
    beside = [name for name in _BESIDE if name in scores.names and name not in choosing] if measures is None else []
    columns = [*choosing, *beside]
    for name in columns:
        low, high = json.loads(scores[name].attrs.get("range", "[-1, 1]"))
        if low < -1 or high > 1:
            raise InputError(f"measures: {name!r} goes from {low:g} to {high:g}, and colours here from -1 to 1")
    grid = np.stack([_flat(scores, name) for name in columns])
    strength = np.nan_to_num(np.abs(grid[: len(choosing)])).max(axis=0)
    order = np.argsort(-strength, kind="stable")[: max(max_heads, 1)]
    reaching = order[strength[order] >= threshold]
    shown = np.sort(reaching if len(reaching) else order[:_AT_LEAST])
    n_in_layer = last_snapshot(scores[columns[0]]).sizes["head"]
    heads = [str(HeadIndex(int(place) // n_in_layer, int(place) % n_in_layer)) for place in shown]
    names = [literal(measure_name(name)) for name in columns]
    figure = go.Figure([_map(grid[:, shown].T, heads, names), *_undefined(grid[:, shown].T, heads, names)])
    look: dict[str, Any] = {"type": "category", "showgrid": False}
    figure.update_xaxes(side="top", tickangle=-50, range=[-0.5, len(columns) - 0.5], **look)
    figure.update_yaxes(title="head", range=[len(heads) - 0.5, -0.5], **look)
    if beside:
        figure.add_vline(len(choosing) - 0.5, line={"color": style.GREY, "width": 1.5})
    remarks = [_remark(int((strength >= threshold).sum()), len(shown), threshold)]
    width, height = _CELL_WIDTH * len(columns), max(150, _CELL_HEIGHT * len(heads))
    frame(figure, title, width=width, height=height, remarks=remarks, more_top=_NAMES_HEIGHT)
    return figure


def _remark(n_reaching: int, n_shown: int, threshold: float) -> str:
    """How the heads were chosen."""
    if not n_reaching:
        return f"No head reaches {threshold:g} on any kind; the strongest are shown."
    chosen = f"Heads that reach {threshold:g} in magnitude on any kind"
    return f"{chosen}, the {n_shown} strongest of {n_reaching}." if n_reaching > n_shown else f"{chosen}."


def _flat(scores: HeadScores, name: str) -> Float[np.ndarray, "head"]:
    return last_snapshot(scores[name]).transpose("layer", "head").to_numpy().astype(np.float64).ravel()


def _map(grid: Float[np.ndarray, "head measure"], heads: list[str], names: list[str]) -> go.Heatmap:
    return go.Heatmap(
        x=names,
        y=heads,
        z=grid,
        text=[["" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}" for value in row] for row in grid],
        texttemplate="%{text}",
        textfont={"size": 10},
        colorscale=[[0.0, style.BELOW_ZERO], [0.5, "#FFFFFF"], [1.0, style.ABOVE_ZERO]],
        zmin=-1.0,
        zmax=1.0,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar("score (-1 to 1)"),
        hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
        hoverongaps=False,
    )


def _undefined(grid: Float[np.ndarray, "head measure"], heads: list[str], names: list[str]) -> list[go.Scatter]:
    """A cross where there is no number; no trace without any."""
    places = np.argwhere(np.isnan(grid))
    if not len(places):
        return []
    crosses = go.Scatter(
        x=[names[column] for _, column in places],
        y=[heads[row] for row, _ in places],
        mode="markers",
        name="not defined",
        showlegend=True,
        marker={"symbol": "x-thin", "size": 7, "line": {"color": style.GREY, "width": 1}},
        hovertemplate="%{y}, %{x}: not defined<extra></extra>",
    )
    return [crosses]
