"""A row of the table as one figure: a panel per model, axes shared, the phase change as an orange band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from ih_lens.errors import InputError
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.plotly_text import literal

Results = Mapping[str, xr.DataArray | None]
"""One result per model, by its name; None where the model was not measured."""

Band = tuple[int | float, int | float]
"""Start and end of a phase change in tokens elapsed."""

Bands = Mapping[str, Band | None]
"""The phase change of each model, by its name; None where there was none."""


@dataclass(frozen=True)
class Panel:
    """What one model shows: traces, or a note in their place.

    Attributes:
        traces: plotly traces without axes.
        note: text in the middle of a panel that has nothing to show.
        begins: tokens elapsed at the first snapshot drawn, where a logarithmic axis cannot show an earlier one.
        remark: what a reader must know, written once below the row.
        below: a second line of the heading, below the model's name; plotly's markup.
    """

    traces: Sequence[BaseTraceType] = ()
    note: str = ""
    begins: float | None = None
    remark: str = ""
    below: str = ""


@dataclass(frozen=True)
class RowLayout:
    """What all panels of a row share.

    Attributes:
        title: heading of the row.
        x_title, y_title: titles of the axes, with units.
        x_axis, y_axis: further plotly settings of the axes.
        layout: further plotly settings of the figure, such as a colour axis.
        keys: traces without data that only explain colours in the legend.
        band: plotly settings of the shape that marks the phase change.
        x_matches: plotly's name of the axis whose range all others follow; None where each has its own.
        remarks: what a reader must know, written below the row.
    """

    title: str
    x_title: str
    y_title: str
    x_axis: Mapping[str, Any] = field(default_factory=dict[str, Any])
    y_axis: Mapping[str, Any] = field(default_factory=dict[str, Any])
    layout: Mapping[str, Any] = field(default_factory=dict[str, Any])
    keys: Sequence[BaseTraceType] = ()
    band: Mapping[str, Any] = field(default_factory=lambda: style.BAND)
    x_matches: str | None = "x"
    remarks: Sequence[str] = ()


NOT_MEASURED = Panel(note="not measured")
NOT_DEFINED = Panel(note="not defined<br>for this model")


def over_training(log_tokens: bool) -> dict[str, Any]:
    """Settings of an axis of tokens elapsed."""
    axis = {"exponentformat": "B", "nticks": 5, "tickangle": 0}
    return {**axis, "type": "log", "dtick": 1} if log_tokens else {**axis, "rangemode": "tozero"}


def label_few_decades(figure: go.Figure) -> None:
    """Ticks at 1, 2 and 5 on a logarithmic axis of tokens that is too short for powers of ten alone."""
    traces: list[Any] = list(figure.select_traces())
    drawn = [trace.x for trace in traces if trace.x is not None and len(trace.x)]
    known = [np.asarray(places, dtype=float) for places in drawn if places[0] is not None]
    tokens = np.concatenate([np.zeros(0), *known])
    tokens = tokens[tokens > 0]
    if len(tokens) and tokens.max() / tokens.min() < 100:
        powers = 10.0 ** np.arange(np.floor(np.log10(tokens.min())), np.ceil(np.log10(tokens.max())) + 1)
        figure.update_xaxes(tickmode="array", tickvals=np.outer(powers, [1, 2, 5]).ravel())


def tokens_elapsed(values: xr.DataArray) -> Float[np.ndarray, "snapshot"]:
    """Tokens that the model had seen at each snapshot.

    Raises:
        InputError: if the result is not stacked over snapshots.
    """
    if "snapshot" not in values.dims or "tokens_elapsed" not in values.coords:
        raise InputError(
            f"expected a result over training with tokens_elapsed for each snapshot, got dimensions {values.dims}; "
            "join the snapshots' results with stack_snapshots first"
        )
    return values["tokens_elapsed"].to_numpy().astype(float)


def drawable(values: xr.DataArray, log_tokens: bool) -> xr.DataArray:
    """The snapshots that the axis can show: a logarithmic one has no place for 0 tokens."""
    return values.isel(snapshot=tokens_elapsed(values) > 0) if log_tokens else values


def begins(values: xr.DataArray, log_tokens: bool) -> float | None:
    """Tokens elapsed at the first snapshot that `drawable` keeps, None where it keeps all."""
    tokens = tokens_elapsed(values)
    kept = tokens[tokens > 0]
    return float(kept[0]) if log_tokens and 0 < len(kept) < len(tokens) else None


def draw_row(panels: Mapping[str, Panel], shared: RowLayout, *, bands: Bands | None = None) -> go.Figure:
    """Put the panels of all models side by side.

    Args:
        panels: one panel per model; its name becomes the title.
        shared: titles, axes and legend of the row.
        bands: phase changes to mark in panels over training.

    Returns:
        A figure whose size grows with the number of panels, with margins that are the same for every row.

    Raises:
        InputError: if there is no panel, or a band's name is not among the panels.
    """
    if not panels:
        raise InputError("expected at least one model to draw, got none")
    check_names(panels, bands or {}, "phase changes")
    n_panels = len(panels)
    width = n_panels * style.panel_width(n_panels)
    figure = make_subplots(
        1, n_panels, shared_yaxes=True, subplot_titles=_headings(panels), horizontal_spacing=style.GAP / width
    )
    for column, (name, panel) in enumerate(panels.items(), start=1):
        _fill(figure, column, panel)
        _mark(figure, column, panel, (bands or {}).get(name), shared.band)
    for key in shared.keys:
        figure.add_trace(key, row=1, col=1)
    if any((bands or {}).values()):
        figure.add_trace(band_key(), row=1, col=1)
    _lay_out(figure, shared, width, panels)
    if shared.x_axis.get("type") == "log":
        label_few_decades(figure)
    return figure


def check_names(drawn: Mapping[str, Any], marked: Mapping[str, Any], what: str) -> None:
    """Marks that would silently go undrawn are refused.

    Raises:
        InputError: if one is for a model that is not drawn.
    """
    if unknown := [name for name in marked if name not in drawn]:
        raise InputError(f"{what} of {', '.join(unknown)}, but the models are {', '.join(drawn)}")


def _headings(panels: Mapping[str, Panel]) -> list[str]:
    """Names of the models, with what stands below them."""
    return [literal(name) + (f"<br>{panel.below}" if panel.below else "") for name, panel in panels.items()]


def _fill(figure: go.Figure, column: int, panel: Panel) -> None:
    """A panel's traces, or its note on grey."""
    empty = go.Scatter(x=[None], y=[None], showlegend=False, hoverinfo="skip")  # plotly draws no axes without a trace
    for trace in panel.traces or [empty]:
        figure.add_trace(trace, row=1, col=column)
    if panel.note:
        x, y = _axes(column)
        inside = {"xref": f"{x} domain", "yref": f"{y} domain"}
        figure.add_annotation(text=panel.note, x=0.5, y=0.5, showarrow=False, font={"color": style.GREY}, **inside)
        grey = {"fillcolor": style.EMPTY, "line": {"width": 0}, "layer": "below"}
        figure.add_shape(type="rect", x0=0, x1=1, y0=0, y1=1, **grey, **inside)


def _mark(figure: go.Figure, column: int, panel: Panel, band: Band | None, look: Mapping[str, Any]) -> None:
    """The orange band over the whole height of a panel, from where the panel begins."""
    if band and panel.traces:
        start = band[0] if panel.begins is None else max(band[0], panel.begins)
        x, y = _axes(column)
        span = {"x0": start, "x1": band[1], "y0": 0, "y1": 1, "xref": x, "yref": f"{y} domain"}
        figure.add_shape(type="rect", name="phase change", **{"fillcolor": style.PHASE_CHANGE, **look}, **span)


def _axes(column: int) -> tuple[str, str]:
    """Plotly's names of a panel's axes, which have no number in the first."""
    number = str(column) if column > 1 else ""
    return f"x{number}", f"y{number}"


def band_key() -> go.Scatter:
    """The entry of the phase change in the legend."""
    marker = {"symbol": "square", "size": 12, "color": style.PHASE_CHANGE, "opacity": 0.45}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="phase change", showlegend=True)


def _lay_out(figure: go.Figure, shared: RowLayout, width: int, panels: Mapping[str, Panel]) -> None:
    """Titles, shared axes, sizes, remarks."""
    figure.update_xaxes(
        title={"text": literal(shared.x_title), "standoff": 6}, matches=shared.x_matches, **shared.x_axis
    )
    figure.update_yaxes(**shared.y_axis)
    figure.update_yaxes(title={"text": literal(shared.y_title), "standoff": 6}, row=1, col=1)
    figure.update_annotations(font_size=13)
    remarks = [*shared.remarks, *_remarks(list(panels.values()))]
    more_top = 16 * any(panel.below for panel in panels.values())
    frame(figure, shared.title, width=width, height=style.PANEL_HEIGHT, remarks=remarks, more_top=more_top)
    figure.update_layout(**shared.layout)


def _remarks(panels: Sequence[Panel]) -> list[str]:
    """What a reader must know of any panel, each thing once."""
    remarks = list(dict.fromkeys(panel.remark for panel in panels if panel.remark))
    if any(panel.begins is not None for panel in panels):
        remarks.append("The snapshot at 0 tokens has no place on a logarithmic axis and is left out.")
    return remarks
