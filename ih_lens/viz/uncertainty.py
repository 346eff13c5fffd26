"""How sure: heads with their intervals, and beside what chance gives."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.head_lines import depth_key
from ih_lens.viz.plotly_text import literal

_HEAD_WIDTH = 24
_MARGIN = {"l": style.LEFT, "r": style.RIGHT, "t": style.TOP, "b": style.BOTTOM + 16}
_CENTRAL = (0.025, 0.975)
_STEMS = {"thickness": 1.4, "width": 4, "color": style.GREY}


def plot_head_intervals(
    values: xr.DataArray,
    interval: xr.DataArray,
    *,
    title: str,
    unit: str,
    null: xr.DataArray | None = None,
    max_heads: int = 24,
    largest: bool = True,
) -> go.Figure:
    """Heads (or groups) in order of their score or effect, each with its interval, over the middle of a null.

    Args:
        values: [layer, head] or [group], such as `scores["prefix_matching"]` or `effect.value`.
        interval: the same with `bound`, from `confidence_interval`; an infinite side reaches to the edge.
        title: what the measure is.
        unit: of the vertical axis, such as "score (0 to 1)".
        null: draws, [draw, ...] with dimensions of the values beside, such as `NullScores.pooled` or
            `MatchedAblations.null`: where 95 % of them lie is shaded behind each head.
        max_heads: how many are shown.
        largest: the largest ones; False for the smallest.

    Raises:
        InputError: if the dimensions do not fit, or no value is defined.

    Examples:
        >>> interval = scores.confidence_interval("copying")
        >>> plot_head_intervals(scores["copying"], interval, title="Copying", unit="score (-1 to 1)")
    """
    if set(interval.dims) != {*values.dims, "bound"}:
        raise InputError(f"interval: expected the dimensions {[*values.dims, 'bound']}, got {list(interval.dims)}")
    flat, names, colours = _in_order(values, max_heads, largest)
    shown = values.to_numpy().ravel()[flat]
    low, high = (interval.sel(bound=side).transpose(*values.dims).to_numpy().ravel()[flat] for side in ("low", "high"))
    bottom, top, ends = _within(shown, low, high)
    figure = go.Figure()
    if null is not None:
        figure.add_trace(_null_bars(null, values, flat, names))
    figure.add_trace(
        go.Scatter(
            x=names,
            y=shown,
            mode="markers",
            name="value and interval",
            error_y={"symmetric": False, "array": top - shown, "arrayminus": shown - bottom, **_STEMS},
            marker={"size": 8, "color": colours},
            customdata=[f"{bounds[0]:.3f} to {bounds[1]:.3f}" for bounds in zip(low, high, strict=True)],
            hovertemplate="%{x}: %{y:.3f}<br>%{customdata}<extra></extra>",
            showlegend=False,
        )
    )
    of_heads = "head" in values.dims
    if of_heads:
        figure.add_trace(depth_key())
    width = max(320, (_HEAD_WIDTH if of_heads else 4 * _HEAD_WIDTH) * len(flat))
    _lay_out(figure, title, style.LEFT + style.RIGHT + width, 340)
    level = f", {interval.attrs['level']:.0%} interval" if "level" in interval.attrs else ""
    text = [name.replace("+", "<br>") for name in names]
    figure.update_xaxes(
        type="category",
        title={"text": "head" if of_heads else "group (heads ablated together)", "standoff": 8},
        tickvals=names,
        ticktext=text,
        tickangle=-60 if of_heads else 0,
        automargin=True,
    )
    figure.update_yaxes(title=f"{literal(unit)}{level}", range=ends)
    return figure


def plot_null_distribution(
    observed: xr.DataArray, null: xr.DataArray, *, title: str, unit: str, n_named: int = 5
) -> go.Figure:
    """What chance gives, and below it every head of the model at its score, by layer.

    Args:
        observed: [layer, head], such as `scores["prefix_matching"]`.
        null: draws, [draw, ...], such as `NullScores.pooled(name, "model")`; all of them are taken together.
        title: what the measure is.
        unit: of the horizontal axis, such as "score (0 to 1)".
        n_named: how many heads are named, those farthest from the middle of the null.

    Raises:
        InputError: if the scores are not [layer, head], or there are no draws.

    Examples:
        >>> null = null_scores(model).pooled("prefix_matching")
        >>> plot_null_distribution(scores["prefix_matching"], null, title="Prefix matching", unit="score (0 to 1)")
    """
    if set(observed.dims) != {"layer", "head"}:
        raise InputError(f"observed: expected scores [layer, head] of one model, got {list(observed.dims)}")
    draws = null.to_numpy().ravel()
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0:
        raise InputError("null: expected draws, got none that is defined; its attribute `undefined` may say why")
    flat, names, colours = _in_order(observed, observed.size, True)
    layers = [HeadIndex.parse(name).layer for name in names]
    shown = observed.to_numpy().ravel()[flat]
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.5, 0.5])
    ends = min(draws.min(), shown.min()), max(draws.max(), shown.max())
    bins = {"start": ends[0], "end": ends[1] + 1e-9, "size": max(float(ends[1] - ends[0]), 1e-9) / 60}
    by_chance = go.Histogram(
        x=draws,
        xbins=bins,
        histnorm="probability",
        marker={"color": style.PALE},
        name="by chance",
        hovertemplate="%{x}: %{y:.1%} of the draws<extra></extra>",
    )
    figure.add_trace(by_chance, row=1, col=1)
    farthest = set(np.argsort(-np.abs(shown - np.median(draws)), kind="stable")[:n_named].tolist())
    of_model = go.Scatter(
        x=shown,
        y=layers,
        mode="markers+text",
        text=[name if place in farthest else "" for place, name in enumerate(names)],
        textposition=["top center", "bottom center"] * (len(names) // 2) + ["top center"] * (len(names) % 2),
        textfont={"size": 10},
        customdata=names,
        marker={"size": 8, "opacity": 0.75, "color": colours},
        hovertemplate="%{customdata}: %{x:.3f}<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(of_model, row=2, col=1)
    _lay_out(figure, title, 700, 420)
    figure.update_xaxes(title=literal(unit), row=2, col=1)
    figure.update_yaxes(title="share of draws", row=1, col=1)
    last = max(layers)
    figure.update_yaxes(title="layer", range=[last + 0.7, min(layers) - 0.9], dtick=max(1, last // 6), row=2, col=1)
    return figure


def _in_order(values: xr.DataArray, max_heads: int, largest: bool) -> tuple[list[int], list[str], list[str]]:
    """Places of the defined values in order, with names, and colours from the first layer to the last."""
    numbers = values.to_numpy().ravel().astype(float)
    order = np.argsort(-numbers if largest else numbers, kind="stable")
    places = [int(place) for place in order if np.isfinite(numbers[place])][:max_heads]
    if not places:
        raise InputError("expected at least one value that is defined, got none")
    if values.dims == ("group",):
        return places, [literal(values["group"].to_numpy()[place]) for place in places], [style.LINE] * len(places)
    if values.dims != ("layer", "head"):
        raise InputError(f"values: expected [layer, head] or [group], got {list(values.dims)}; choose with .isel first")
    heads = [HeadIndex(*map(int, np.unravel_index(place, values.shape))) for place in places]
    depths = [head.layer / max(1, values.sizes["layer"] - 1) for head in heads]
    return places, [str(head) for head in heads], list(map(str, sample_colorscale(style.DEPTH_SCALE, depths)))


def _within(
    shown: Float[np.ndarray, "head_index"], low: Float[np.ndarray, "head_index"], high: Float[np.ndarray, "head_index"]
) -> tuple[Float[np.ndarray, "head_index"], Float[np.ndarray, "head_index"], tuple[float, float] | None]:
    """Ends of the intervals that can be drawn, and where the axis must end for infinite ones to reach its edge."""
    both = np.stack([low, high])
    if not np.isinf(both).any():
        return low, high, None
    finite = np.concatenate([shown, both[np.isfinite(both)]])
    beyond = 0.15 * max(float(finite.max() - finite.min()), 1e-9)
    ends = float(finite.min()) - beyond, float(finite.max()) + beyond
    return np.maximum(low, ends[0]), np.minimum(high, ends[1]), ends


def _null_bars(null: xr.DataArray, values: xr.DataArray, flat: list[int], names: list[str]) -> go.Bar:
    """Where the middle 95 % of the draws lie, behind each head."""
    ends = null.astype(float).quantile(_CENTRAL, "draw").drop_vars("quantile")
    low, high = (
        ends.isel(quantile=side).broadcast_like(values).transpose(*values.dims).to_numpy().ravel()[flat]
        for side in range(2)
    )
    return go.Bar(
        x=names,
        base=low,
        y=high - low,
        width=0.9,
        marker={"color": style.PALE, "line": {"width": 2, "color": style.FAINT}},  # seen however narrow
        name="95 % of the<br>null",
        hovertemplate="null: %{base:.3f} to %{customdata:.3f}<extra></extra>",
        customdata=high,
    )


def _lay_out(figure: go.Figure, title: str, width: int, height: int) -> None:
    figure.update_layout(
        template=style.TEMPLATE,
        title={"text": literal(title), "x": 0, "xref": "paper", "font": {"size": 15}},
        width=width,
        height=height,
        margin=_MARGIN,
        barmode="overlay",
        bargap=0.02,
    )
