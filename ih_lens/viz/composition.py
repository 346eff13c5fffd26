"""Which heads read what earlier heads write: a diagram of the strongest pairs, and the matrix of all."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.colors import sample_colorscale

from ih_lens.analysis.compositions import above_baseline, strongest_compositions
from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_map import cells
from ih_lens.viz.measure_names import measure_heading

_STEP_X, _STEP_Y = 52, 46
"""Pixels between heads and between layers of the diagram, where it does not become too large."""
_LARGEST = 760
_CELL, _SMALLEST_MATRIX, _LARGEST_MATRIX = 34, 200, 620
"""Pixels of the matrix: of a cell, where it does not become too large."""
_DARK_ENOUGH = (0.35, 1.0)
"""Part of the scale of colours that shows as lines on white."""
_WIDTHS = (1.2, 4.5)
_BOW, _LARGEST_BOW = 0.22, 2.0
"""How far a line swings out past the heads between, in heads: per layer that it passes, and at most."""
_SHARE_OF_COLOURS, _MANY_PAIRS = 0.995, 1000
"""Part of the pairs within the scale of a matrix of many, so that a single one does not make all others pale."""


def plot_composition(
    scores: xr.DataArray, *, k: int = 30, types: xr.DataArray | None = None, title: str | None = None
) -> go.Figure:
    """The heads of a model and the pairs of them that compose most: earlier heads above, lines to those that read them.

    Every head stands where `plot_head_map` has its cell. A line is the wider and darker the further its score lies
    above that of random heads of the same widths; hovering gives the numbers.

    Args:
        scores: result of `composition_scores`.
        k: number of pairs, the strongest ones; pairs that do not exceed random heads are left out.
        types: result of `head_types` [layer, head], to colour heads by.
        title: heading; the kind of composition if None.

    Raises:
        InputError: if these are no composition scores, or types and scores disagree about the number of heads.

    Examples:
        >>> plot_composition(composition_scores(model), types=head_types(scores))
    """
    found: list[Any] = list(strongest_compositions(scores, k).itertuples())
    pairs = [pair for pair in found if pair.above_baseline > 0]
    n_layers, n_heads = scores.sizes["layer"], scores.sizes["head"]
    if types is not None and dict(types.sizes) != {"layer": n_layers, "head": n_heads}:
        raise InputError(
            f"types: expected those of {n_layers} layers of {n_heads} heads, as the scores are, got "
            f"{dict(types.sizes)}; take both from one model"
        )
    largest = max((pair.above_baseline for pair in pairs), default=1.0)
    figure = go.Figure([*(_edge(pair, largest) for pair in reversed(pairs)), _edge_key(largest)])
    later = {pair.head: "bottom center" for pair in pairs}  # names stand where no lines do
    figure.add_traces(
        _nodes(n_layers, n_heads, {**later, **{pair.earlier_head: "top center" for pair in pairs}}, types)
    )
    figure.update_layout(legend_itemsizing="constant")
    figure.update_xaxes(title="head", showgrid=False, **cells(np.arange(n_heads)))
    reach = np.concatenate([np.zeros(1), *(_curve(pair.earlier_head, pair.head)[0] for pair in pairs)])
    figure.update_xaxes(range=[min(-0.5, reach.min() - 0.2), max(n_heads - 0.5, reach.max() + 0.2)])
    figure.update_yaxes(title="layer", showgrid=False, **cells(np.arange(n_layers), downwards=True))
    frame(
        figure,
        title or f"{measure_heading(str(scores.name))}: the {len(pairs)} strongest pairs",
        width=max(260, min(_LARGEST, _STEP_X * n_heads)),
        height=max(240, min(_LARGEST, _STEP_Y * n_layers)),
        remarks=[
            "Lines lead from a head to later ones that read it.",
            f"Random heads score {float(scores['baseline_mean']):.4f} ± {float(scores['baseline_std']):.4f}.",
        ],
    )
    return figure


def plot_composition_matrix(scores: xr.DataArray, *, title: str | None = None) -> go.Figure:
    """How far each pair of heads composes beyond random heads: a row per later head, a column per earlier one.

    Args:
        scores: result of `composition_scores`.
        title: heading; the kind of composition if None.

    Raises:
        InputError: if these are no composition scores, or of one layer.

    Examples:
        >>> plot_composition_matrix(composition_scores(model, "v"))
    """
    n_layers, n_heads = scores.sizes["layer"], scores.sizes["head"]
    if n_layers < 2:
        raise InputError("heads of one layer do not compose with each other; expected scores of two layers or more")
    above = above_baseline(scores)[1:, :, :-1].to_numpy().astype(np.float32)
    numbers = above.reshape((n_layers - 1) * n_heads, -1)
    later, earlier = (_names(layers, n_heads) for layers in (range(1, n_layers), range(n_layers - 1)))
    end, is_cut = _end_of_scale(numbers)
    matrix = go.Heatmap(
        x=earlier,
        y=later,
        z=numbers,
        colorscale=style.DERIVATIVE_SCALE,
        zmin=-end,
        zmax=end,
        colorbar=style.colour_bar("score above random heads (no unit)"),
        hovertemplate="%{y} reads %{x}: %{z:.4f} above random heads<extra></extra>",
    )
    figure = go.Figure(matrix)
    figure.update_xaxes(title="earlier head, by layer", **_layer_axis(earlier, n_heads))
    figure.update_yaxes(title="later head, by layer", **_layer_axis(later, n_heads), autorange="reversed")
    for border in range(1, n_layers - 1):
        line: dict[str, Any] = {"line": {"color": style.FAINT, "width": 0.5}, "layer": "above"}
        figure.add_vline(border * n_heads - 0.5, **line)
        figure.add_hline(border * n_heads - 0.5, **line)
    remarks = [f"Colours end where {_SHARE_OF_COLOURS:.1%} of the pairs lie."] if is_cut else []
    heading = title or f"{measure_heading(str(scores.name))} of all pairs of heads"
    size = max(_SMALLEST_MATRIX, min(_LARGEST_MATRIX, _CELL * len(later)))
    frame(figure, heading, width=size, height=size, remarks=remarks)
    return figure


def _edge(pair: Any, largest: float) -> go.Scatter:
    """A line from the earlier head to the later one, past the heads between them."""
    x, y = _curve(pair.earlier_head, pair.head)
    share = pair.above_baseline / largest
    shade = _DARK_ENOUGH[0] + share * (_DARK_ENOUGH[1] - _DARK_ENOUGH[0])
    numbers = (
        f"score {pair.score:.4f}<br>{pair.above_baseline:.4f} ({pair.deviations:.1f} standard deviations) above random"
    )
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=f"{pair.earlier_head} to {pair.head}",
        showlegend=False,
        line={
            "color": str(sample_colorscale(style.LOSS_SCALE, shade)[0]),
            "width": _WIDTHS[0] + share * (_WIDTHS[1] - _WIDTHS[0]),
        },
        hovertemplate=f"{pair.head} reads {pair.earlier_head}<br>{numbers}<extra></extra>",
    )


def _curve(earlier: HeadIndex, later: HeadIndex) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """A straight line between neighbouring layers; an arc, to the side, past layers in between."""
    share = np.linspace(0, 1, 25)
    swing = min(_BOW * (later.layer - earlier.layer - 1), _LARGEST_BOW) * (1 if later.head >= earlier.head else -1)
    x = earlier.head + share * (later.head - earlier.head) + 4 * swing * share * (1 - share)
    return x, earlier.layer + share * (later.layer - earlier.layer)


def _nodes(n_layers: int, n_heads: int, named: Mapping[HeadIndex, str], types: xr.DataArray | None) -> list[go.Scatter]:
    """All heads as points, a trace per type; those of the pairs are larger and have their names."""
    heads = [HeadIndex(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    kinds = None if types is None else types.transpose("layer", "head").to_numpy()
    groups: dict[tuple[str, str], list[HeadIndex]] = {}
    for head in heads:
        kind = ("heads", style.LINE) if kinds is None else style.HEAD_TYPES[str(kinds[head])][:2]
        groups.setdefault(kind, []).append(head)
    order = [look[:2] for look in style.HEAD_TYPES.values()]
    ranked = sorted(groups.items(), key=lambda group: order.index(group[0]) if group[0] in order else 0)
    return [_points(label, colour, members, named, in_legend=kinds is not None) for (label, colour), members in ranked]


def _points(
    label: str, colour: str, heads: list[HeadIndex], named: Mapping[HeadIndex, str], *, in_legend: bool
) -> go.Scatter:
    """Heads of one look."""
    kind = f" ({label.replace('<br>', ' ')})" if in_legend else ""
    return go.Scatter(
        x=[head.head for head in heads],
        y=[head.layer for head in heads],
        mode="markers+text",
        name=label,
        showlegend=in_legend,
        text=[str(head) if head in named else "" for head in heads],
        textposition=[named.get(head, "top center") for head in heads],
        textfont={"size": 10, "color": style.TEXT},
        marker={
            "color": colour,
            "size": [11 if head in named else 5 for head in heads],
            "opacity": [1.0 if head in named else 0.45 for head in heads],
        },
        customdata=[str(head) for head in heads],
        hovertemplate=f"%{{customdata}}{kind}<extra></extra>",
    )


def _edge_key(largest: float) -> go.Scatter:
    """The colour bar of the lines."""
    scale = sample_colorscale(style.LOSS_SCALE, list(np.linspace(*_DARK_ENOUGH, 9)))
    bar = style.colour_bar("score above random<br>heads (no unit)", len=0.5)
    marker = {"color": [0.0], "cmin": 0, "cmax": largest, "colorscale": scale, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip")


def _names(layers: range, n_heads: int) -> list[str]:
    return [str(HeadIndex(layer, head)) for layer in layers for head in range(n_heads)]


def _layer_axis(names: list[str], n_heads: int) -> dict[str, Any]:
    """A tick at the middle of each layer, or of some where there are many."""
    starts = range(0, len(names), n_heads)
    step = max(1, round(len(starts) / 12))
    chosen = list(starts)[::step]
    layers = [str(HeadIndex.parse(names[start]).layer) for start in chosen]
    return {"showgrid": False, "tickvals": [start + (n_heads - 1) / 2 for start in chosen], "ticktext": layers}


def _end_of_scale(numbers: Float[np.ndarray, "later earlier"]) -> tuple[float, bool]:
    """Where colours end, and whether any number lies beyond."""
    sizes = np.abs(numbers[np.isfinite(numbers)])
    largest = float(sizes.max(initial=0.0))
    end = float(np.quantile(sizes, _SHARE_OF_COLOURS)) if sizes.size > _MANY_PAIRS else largest
    return end or largest or 1.0, 0 < end < largest
