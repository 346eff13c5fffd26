"""Figures of trainings under clamps: losses by condition, when each learned, and what that depends on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from ih_lens.errors import InputError
from ih_lens.viz import style
from ih_lens.viz.grid import Panel, RowLayout, draw_row
from ih_lens.viz.plotly_text import literal

_COLOURS = style.CATEGORIES
_DASHES = ("dash", "dot", "dashdot")
_WIDTH, _ROW_HEIGHT = 760, 26


def plot_condition_losses(
    losses: pd.DataFrame, *, levels: Mapping[str, float] | None = None, log_steps: bool = False
) -> go.Figure:
    """Training losses, one panel per condition and one line per seed.

    Args:
        losses: columns `condition`, `seed`, `step` and `loss` in nats.
        levels: losses to mark by broken lines, by name, such as the threshold of learning.
        log_steps: logarithmic axis; step 0 is then left out.

    Raises:
        InputError: if a column is missing or there is nothing to draw.

    Examples:
        >>> plot_condition_losses(losses, levels={"threshold": 0.28})
    """
    _require(losses, "condition", "seed", "step", "loss")
    shown = losses[losses["step"] > 0] if log_steps else losses
    seeds = list(dict.fromkeys(losses["seed"]))
    steps = np.asarray(shown["step"])
    ends = (float(steps.min()), float(steps.max()))
    panels: dict[str, Panel] = {}
    for condition, of_condition in shown.groupby("condition", sort=False):
        first = not panels
        lines = [
            go.Scatter(
                x=of_seed["step"],
                y=of_seed["loss"],
                mode="lines",
                line={"color": _COLOURS[seeds.index(seed) % len(_COLOURS)], "width": 1.8},
                name=f"seed {literal(seed)}",
                legendgroup=f"seed {seed}",
                showlegend=first,
                hovertemplate="step %{x}<br>%{y:.3f} nats",
            )
            for seed, of_seed in of_condition.groupby("seed", sort=False)
        ]
        panels[str(condition)] = Panel([*_levels(levels or {}, ends, shown=first), *lines])
    axis: dict[str, Any] = {"type": "log", "dtick": 1} if log_steps else {"rangemode": "tozero", "nticks": 5}
    return draw_row(panels, RowLayout("Training loss by condition", "step", "loss (nats)", {"tickangle": 0, **axis}))


def _levels(levels: Mapping[str, float], ends: tuple[float, float], *, shown: bool) -> list[BaseTraceType]:
    """Broken lines over the whole width."""
    return [
        go.Scatter(
            x=ends,
            y=(level, level),
            mode="lines",
            line={"color": style.GREY, "width": 1.2, "dash": _DASHES[place % len(_DASHES)]},
            name=literal(name),
            legendgroup=name,
            showlegend=shown,
            hovertemplate="%{y:.3f} nats",
        )
        for place, (name, level) in enumerate(levels.items())
    ]


def plot_learning_times(times: pd.DataFrame) -> go.Figure:
    """When each condition learned: a bar up to the median of its seeds, and a point per seed.

    Args:
        times: columns `condition`, `seed`, `step` (NaN where the threshold was not reached) and `n_steps`, the length
            of that training. Trainings that did not reach it are drawn as open triangles at their end.

    Raises:
        InputError: if a column is missing or there is nothing to draw.

    Examples:
        >>> plot_learning_times(runs.learning_times(0.28).assign(n_steps=4500))
    """
    _require(times, "condition", "seed", "step", "n_steps")
    never = times["step"].isna()
    reached = times.assign(point=times["step"], value=times["step"].fillna(times["n_steps"]))
    names = [[literal(name)] for name in reached["condition"]]
    figure = _bars(reached, names, "Learning times", "steps until the loss is below the threshold", "%{x:.0f} steps")
    late = reached[never]
    if len(late):
        look = {"symbol": "triangle-right-open", "size": 11, "color": style.TEXT, "line": {"width": 1.6}}
        figure.add_trace(
            go.Scatter(
                x=late["value"],
                y=list(map(literal, late["condition"])),
                mode="markers",
                marker=look,
                name="not reached until then",
                hovertemplate="not within %{x:.0f} steps",
            )
        )
    return figure


def plot_losses_by_condition(losses: pd.DataFrame) -> go.Figure:
    """Losses of models under several conditions: a bar up to the median of the seeds, and a point per seed.

    Args:
        losses: columns `group` (what kind of conditions these are), `condition`, `seed` and `loss` in nats.

    Raises:
        InputError: if a column is missing or there is nothing to draw.

    Examples:
        >>> plot_losses_by_condition(losses_under(model, evals, conditions).assign(group="ablated", seed=0))
    """
    _require(losses, "group", "condition", "seed", "loss")
    names = [[literal(group), literal(name)] for group, name in zip(losses["group"], losses["condition"], strict=True)]
    drawn = losses.assign(point=losses["loss"], value=losses["loss"])
    return _bars(drawn, names, "Losses by condition", "loss (nats)", "%{x:.3f} nats")


def _bars(values: pd.DataFrame, names: list[list[str]], title: str, x_title: str, hover: str) -> go.Figure:
    """Horizontal bars of medians of `value`, and points at `point`, in the order of the table from the top."""
    keys = [" ".join(name) for name in names]
    medians = values["value"].groupby(keys, sort=False).median()
    labels = dict(zip(keys, names, strict=True))

    def y(chosen: list[str]) -> Any:
        columns = [list(column) for column in zip(*(labels[key] for key in chosen), strict=True)]
        return columns[0] if len(columns) == 1 else columns

    order = list(map(str, medians.index))
    figure = go.Figure(
        go.Bar(
            x=medians.to_numpy(),
            y=y(order),
            orientation="h",
            marker={"color": style.PALE},
            name="median",
            hovertemplate=f"median {hover}",
        )
    )
    for place, (seed, of_seed) in enumerate(values.assign(key=keys).groupby("seed", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=of_seed["point"],
                y=y(list(of_seed["key"])),
                mode="markers",
                marker={"color": _COLOURS[place % len(_COLOURS)], "size": 8},
                name=f"seed {literal(seed)}",
                hovertemplate=hover,
            )
        )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return _laid_out(figure, title, style.TOP + style.BOTTOM + _ROW_HEIGHT * len(order), left=250)


def plot_dissociation(times: pd.DataFrame) -> go.Figure:
    """Learning times of parts of a circuit against properties of the task, one panel per property.

    Args:
        times: result of `exemplar_learning_times`: columns `condition` (what is left to be learned), `varied` (the
            property), `number` (its value), `seed` and `step` (NaN where the threshold was not reached, which is not
            drawn).

    Returns:
        Lines through the medians of the seeds, and a point per seed.

    Raises:
        InputError: if a column is missing or there is nothing to draw.

    Examples:
        >>> plot_dissociation(times)
    """
    _require(times, "condition", "varied", "number", "seed", "step")
    properties = [str(name) for name in dict.fromkeys(times["varied"])]
    figure = make_subplots(1, len(properties), shared_yaxes=True, horizontal_spacing=0.05)
    for place, condition in enumerate(dict.fromkeys(times["condition"])):
        look = {"color": _COLOURS[place % len(_COLOURS)], "dash": ("solid", *_DASHES)[place % 4], "width": 2}
        for column, varied in enumerate(properties, start=1):
            chosen = times[(times["condition"] == condition) & (times["varied"] == varied)]
            medians = chosen.groupby("number")["step"].median()
            shared = {"legendgroup": str(condition), "name": literal(condition)}
            middle = go.Scatter(x=medians.index, y=medians, mode="lines", line=look, showlegend=column == 1, **shared)
            points = {"color": look["color"], "size": 8}
            single = go.Scatter(
                x=chosen["number"],
                y=chosen["step"],
                mode="markers",
                marker=points,
                showlegend=False,
                hovertemplate="%{x}: %{y:.0f} steps",
                **shared,
            )
            figure.add_trace(middle, row=1, col=column)
            figure.add_trace(single, row=1, col=column)
    for column, varied in enumerate(properties, start=1):
        numbers = sorted(set(times.loc[times["varied"] == varied, "number"]))
        ticks: dict[str, Any] = {"type": "log", "tickvals": numbers, "ticktext": list(map(literal, numbers))}
        figure.update_xaxes(title=f"number of {literal(varied)}", **ticks, row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="steps until the loss is below the threshold", row=1, col=1)
    return _laid_out(figure, "Learning times by property of the task", 360)


def plot_toy_model(losses: pd.DataFrame) -> go.Figure:
    """Losses of the three-factor toy model, a line per condition.

    Args:
        losses: columns `condition`, `step` and `loss`, a share of the first one.

    Raises:
        InputError: if a column is missing or there is nothing to draw.

    Examples:
        >>> plot_toy_model(losses)
    """
    _require(losses, "condition", "step", "loss")
    figure = go.Figure()
    for place, (condition, chosen) in enumerate(losses.groupby("condition", sort=False)):
        look = {"color": _COLOURS[place % len(_COLOURS)], "dash": ("solid", *_DASHES)[place % 4], "width": 2}
        figure.add_trace(
            go.Scatter(x=chosen["step"], y=chosen["loss"], mode="lines", line=look, name=literal(condition))
        )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss, share of the first")
    return _laid_out(figure, "Three factors learned together", 340)


def _laid_out(figure: go.Figure, title: str, height: int, *, left: int = style.LEFT) -> go.Figure:
    """Size, margins and title as the rows of the Model Analysis Table have them."""
    return figure.update_layout(
        template=style.TEMPLATE,
        title={"text": title, "x": 0, "xref": "paper", "y": 0.97, "yanchor": "top", "font": {"size": 15}},
        width=_WIDTH + style.RIGHT,
        height=height,
        margin={"l": left, "r": style.RIGHT, "t": style.TOP, "b": style.BOTTOM},
    )


def _require(table: pd.DataFrame, *columns: str) -> None:
    """Refuse a table that lacks columns or rows."""
    if missing := [name for name in columns if name not in table]:
        raise InputError(f"expected the columns {', '.join(columns)}; {', '.join(missing)} are missing")
    if not len(table):
        raise InputError("expected at least one row to draw, got none")
