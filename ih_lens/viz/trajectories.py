"""Trajectories of models in the space of their losses."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.basedatatypes import BaseTraceType

from ih_lens.errors import InputError
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.grid import NOT_MEASURED, Band, Bands, Panel, Results, RowLayout, check_names, draw_row, tokens_elapsed
from ih_lens.viz.model_lines import WIDTH, line_looks
from ih_lens.viz.plotly_text import literal

_AT = "%{customdata:,} tokens<br>(%{x:.3g}, %{y:.3g}) nats<extra></extra>"
"""What hovering says of a snapshot."""


def plot_token_loss_pca(
    projections: Results,
    *,
    explained_variance_ratio: Sequence[float] | np.ndarray | None = None,
    phase_changes: Bands | None = None,
) -> go.Figure:
    """Each model's path through the first two principal components of the per-token losses.

    Snapshots are coloured from the first to the last, which are named; those in the phase change are outlined in
    orange.

    Args:
        projections: one of `TokenLossPCA.projections` [snapshot, component] per model, in nats; None where it was
            not measured.
        explained_variance_ratio: the components' shares of the variance, shown in the titles of the axes.
        phase_changes: start and end in tokens elapsed per model, both snapshots included.

    Returns:
        A row of panels that share their axes.

    Raises:
        InputError: if a projection has fewer than two components.

    Examples:
        >>> pca = token_loss_pca([losses_1, losses_2])
        >>> plot_token_loss_pca(dict(zip(["1L", "2L"], pca.projections)))
    """
    bands = phase_changes or {}
    panels = {
        name: NOT_MEASURED if path is None else _path_panel(path, bands.get(name)) for name, path in projections.items()
    }
    x_title, y_title = (_component_title(number, explained_variance_ratio) for number in (0, 1))
    keys: list[BaseTraceType] = [_outline_key()] if any(bands.values()) else []
    shared = RowLayout("Per-token losses: path through the first two principal components", x_title, y_title, keys=keys)
    figure = draw_row(panels, shared)
    bar = style.colour_bar("snapshot", tickvals=[0, 1], ticktext=["first", "last"])
    return figure.update_layout(coloraxis={"colorscale": style.TRAINING_SCALE, "cmin": 0, "cmax": 1, "colorbar": bar})


def plot_token_loss_pca_together(
    projections: Results,
    *,
    explained_variance_ratio: Sequence[float] | np.ndarray | None = None,
    phase_changes: Bands | None = None,
) -> go.Figure:
    """All models' paths through the first two principal components of the per-token losses, in one panel.

    Args:
        projections: one of `TokenLossPCA.projections` [snapshot, component] per model, in nats, from the smallest to
            the largest model, which become darker in this order. None leaves a model out.
        explained_variance_ratio: the components' shares of the variance, shown in the titles of the axes.
        phase_changes: start and end in tokens elapsed per model, both snapshots included, outlined in orange.

    Returns:
        A figure with a colour and a symbol per model, whose name stands at its last snapshot.

    Raises:
        InputError: if a projection has fewer than two components, there is none, or there is a phase change of a model
            that is not drawn.

    Examples:
        >>> pca = token_loss_pca([losses_1, losses_2])
        >>> plot_token_loss_pca_together(dict(zip(["1L", "2L"], pca.projections)))
    """
    bands = phase_changes or {}
    check_names(projections, bands, "phase changes")
    paths = {name: _points(path, bands.get(name)) for name, path in projections.items() if path is not None}
    if not paths:
        raise InputError("expected at least one model to draw, got none")
    figure = go.Figure([outline for points, _, inside in paths.values() for outline in _outline(points[inside])])
    for place, (name, look) in enumerate(line_looks(list(paths)).items()):
        points, tokens, _ = paths[name]
        _point_out(figure, points[-1], literal(name), look.colour, 24 + 15 * place)
        figure.add_scatter(
            x=points[:, 0],
            y=points[:, 1],
            mode="lines+markers",
            line={"color": look.colour, "width": 1},
            marker={"color": look.colour, "symbol": look.symbol, "size": 6},
            customdata=tokens,
            name=literal(name),
            showlegend=True,
            hovertemplate=f"{literal(name)}<br>{_AT}",
        )
    starts = np.array([points[0] for points, _, _ in paths.values()]).mean(axis=0)
    _point_out(figure, starts, "first snapshots", style.TEXT, -28)
    if any(inside.any() for _, _, inside in paths.values()):
        figure.add_trace(_outline_key())
    x_title, y_title = (_component_title(number, explained_variance_ratio) for number in (0, 1))
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title)
    frame(figure, "Per-token losses: paths through the first two principal components", width=WIDTH, height=380)
    return figure


def _point_out(figure: go.Figure, point: np.ndarray, text: str, colour: str, down: int) -> None:
    """A name with an arrow to a point, so many pixels below it."""
    look = {"font": {"size": 11, "color": colour}, "arrowcolor": colour, "arrowwidth": 1, "arrowhead": 2}
    figure.add_annotation(x=point[0], y=point[1], text=text, ax=0, ay=down, standoff=4, **look)


def _component_title(number: int, ratios: Sequence[float] | np.ndarray | None) -> str:
    """The axis of one component, with its share of the variance where that is given."""
    share = f", {ratios[number]:.0%}" if ratios is not None and len(ratios) > number else ""
    return f"component {number + 1} (nats{share})"


def _points(path: xr.DataArray, band: Band | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One model's points, the tokens elapsed, and which points lie in the phase change."""
    if path.ndim != 2 or path.sizes.get("component", 0) < 2:
        raise InputError(
            f"expected projections [snapshot, component] on at least 2 components, got {dict(path.sizes)}; "
            "fit with n_components=2 or more"
        )
    tokens = tokens_elapsed(path)
    inside = (tokens >= band[0]) & (tokens <= band[1]) if band else np.zeros(len(tokens), bool)
    return path.transpose("snapshot", "component").to_numpy(), tokens, inside


def _ends(n_points: int, first: str, last: str, *, between: str = "") -> list[str]:
    """Texts at the two ends of a path; a single point is the last."""
    return [first, *[between] * (n_points - 2), last][-n_points:]


def _path_panel(path: xr.DataArray, band: Band | None) -> Panel:
    """One model's snapshots, joined in order."""
    points, tokens, inside = _points(path, band)
    snapshots = go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="lines+markers+text",
        text=_ends(len(points), "first", "last"),
        textposition=_ends(len(points), "top center", "bottom center", between="top center"),
        textfont={"size": 10},
        cliponaxis=False,
        line={"color": style.FAINT, "width": 1},
        marker={"color": np.linspace(0, 1, len(points)), "coloraxis": "coloraxis", "size": 6},
        customdata=tokens,
        name="snapshots",
        showlegend=False,
        hovertemplate=_AT,
    )
    return Panel([*_outline(points[inside]), snapshots])


def _outline(points: np.ndarray) -> list[BaseTraceType]:
    """A wide orange line below the snapshots of the phase change."""
    if not len(points):
        return []
    return [go.Scatter(x=points[:, 0], y=points[:, 1], showlegend=False, hoverinfo="skip", **_OUTLINE)]


_OUTLINE = {
    "mode": "lines+markers",
    "line": {"color": style.PHASE_CHANGE, "width": 7},
    "marker": {"color": style.PHASE_CHANGE, "size": 11},
    "name": "phase change",
}


def _outline_key() -> go.Scatter:
    """The outline's entry in the legend."""
    return go.Scatter(x=[None], y=[None], hoverinfo="skip", **_OUTLINE)
