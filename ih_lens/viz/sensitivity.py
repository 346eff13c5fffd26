"""How the in-context learning score depends on the two context indices that define it."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.grid import NOT_MEASURED, Panel, Results, RowLayout, draw_row
from ih_lens.viz.heat_maps import INDEX_TICKS
from ih_lens.viz.model_lines import HEIGHT, WIDTH, line_looks, measured
from ih_lens.viz.plotly_text import literal

_LARGEST_WITH_NUMBERS = 12
"""Indices on an axis up to which the numbers fit into the cells."""


def plot_in_context_learning_sensitivity(sensitivities: Results) -> go.Figure:
    """The in-context learning score for every pair of indices as colour, one panel per model.

    Purple is negative: the model learns in context. Cells whose early index is not before the late one are empty,
    and the pair that the score has by default is framed.

    Args:
        sensitivities: result of `in_context_learning_sensitivity` [late, early] of one snapshot per model, in nats;
            None where it was not measured.

    Returns:
        A row of panels with one colour scale that is centred at zero.

    Raises:
        InputError: if a result has other dimensions.

    Examples:
        >>> plot_in_context_learning_sensitivity({"2L": in_context_learning_sensitivity(losses)})
    """
    known = [values for values in sensitivities.values() if values is not None]
    for name, values in sensitivities.items():
        if values is not None and set(values.dims) != {"late", "early"}:
            raise InputError(f"{name}: expected [late, early], got {values.dims}; choose a snapshot with .isel first")
    lates, earlies = (sorted({int(i) for values in known for i in values[dim]}) for dim in ("late", "early"))
    panels = {
        name: NOT_MEASURED if values is None else Panel([_cells(values)]) for name, values in sensitivities.items()
    }
    end = max((float(np.nanmax(np.abs(values), initial=0.0)) for values in known), default=0.0) or 1.0
    bar = style.colour_bar("score (nats)")
    shared = RowLayout(
        "In-context learning score by its two indices",
        "early context index (tokens)",
        "late context index (tokens)",
        x_axis=_categories(earlies),
        y_axis=_categories(lates),
        layout={"coloraxis": {"colorscale": style.DERIVATIVE_SCALE, "cmin": -end, "cmax": end, "colorbar": bar}},
        keys=[_frame_key()],
    )
    figure = draw_row(panels, shared)
    for column, values in enumerate(sensitivities.values(), start=1):
        if values is not None:
            _frame(figure, column, values, lates, earlies)
    return figure


def _categories(indices: list[int]) -> dict[str, object]:
    """An axis with a place of the same size for each index."""
    names = list(map(str, indices))
    return {"type": "category", "categoryorder": "array", "categoryarray": names, "showgrid": False, "tickangle": 0}


def _cells(values: xr.DataArray) -> go.Heatmap:
    """One model's map."""
    grid = values.transpose("late", "early")
    errors = grid["stderr"].to_numpy() if "stderr" in grid.coords else np.full(grid.shape, np.nan)
    numbers = max(grid.shape) <= _LARGEST_WITH_NUMBERS
    return go.Heatmap(
        x=[str(index) for index in grid["early"].to_numpy()],
        y=[str(index) for index in grid["late"].to_numpy()],
        z=grid.to_numpy(),
        customdata=[["" if np.isnan(error) else f" ± {2 * error:.3f}" for error in row] for row in errors],
        coloraxis="coloraxis",
        texttemplate="%{z:.2f}" if numbers else None,
        textfont={"size": 9},
        hoverongaps=False,
        xgap=1,
        ygap=1,
        hovertemplate="late %{y}, early %{x}<br>%{z:.3f}%{customdata} nats<extra></extra>",
    )


def _frame(figure: go.Figure, column: int, values: xr.DataArray, lates: list[int], earlies: list[int]) -> None:
    """A frame around the pair that the score has by default, where it is among those shown."""
    early, late = (values.attrs.get(f"default_{dim}") for dim in ("early", "late"))
    if early in earlies and late in lates:
        x, y = earlies.index(early), lates.index(late)
        line = {"color": style.TEXT, "width": 2}
        ends = {"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
        figure.add_shape(type="rect", name="default pair", line=line, **ends, row=1, col=column)


def _frame_key() -> go.Scatter:
    """The frame's entry in the legend."""
    marker = {"symbol": "square-open", "size": 12, "color": style.TEXT, "line": {"width": 2}}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="default pair")


def plot_in_context_learning_by_early_index(sensitivities: Results, *, late: int | None = None) -> go.Figure:
    """The score against its early index, a line per model, as the paper draws it for its large models.

    Args:
        sensitivities: result of `in_context_learning_sensitivity` [late, early] of one snapshot per model, in nats,
            from the smallest to the largest model, which become darker in this order. None leaves a model out.
        late: the late index; by default the last that all models have, as in the paper.

    Returns:
        Lines with two standard errors to both sides where they are known.

    Raises:
        InputError: if there is no such index, or a result has other dimensions.

    Examples:
        >>> plot_in_context_learning_by_early_index({"2L": in_context_learning_sensitivity(losses)})
    """
    known = {name: values for name, values in sensitivities.items() if values is not None}
    shared = set.intersection(*({int(i) for i in values["late"]} for values in known.values())) if known else set[int]()
    chosen = max(shared, default=0) if late is None else late
    if known and chosen not in shared:
        raise InputError(f"late={late}: the models share the late indices {sorted(shared)}; choose one of them")
    lines = measured({name: values.sel(late=chosen, drop=True) for name, values in known.items()}, "early")
    figure = go.Figure()
    for name, look in line_looks(list(lines)).items():
        values = lines[name].dropna("early")
        errors = 2 * values["stderr"].to_numpy() if "stderr" in values.coords else np.full(len(values), np.nan)
        figure.add_scatter(
            x=values["early"].to_numpy(),
            y=values.to_numpy(),
            error_y={"array": errors, "thickness": 1.2, "width": 3} if np.isfinite(errors).any() else None,
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 1.8},
            marker={"symbol": look.symbol, "size": 6},
            name=literal(name),
            showlegend=True,
            hovertemplate=f"{literal(name)}<br>early %{{x}}, late {chosen}<br>%{{y:.3f}} nats<extra></extra>",
        )
    figure.update_xaxes(title="early context index (tokens)", type="log", tickvals=INDEX_TICKS)
    figure.update_yaxes(title=f"loss at index {chosen} minus that at the early one (nats)")
    frame(figure, "In-context learning score by its early index", width=WIDTH, height=HEIGHT)
    return figure
