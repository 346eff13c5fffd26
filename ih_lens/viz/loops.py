"""Loops in generation with and without heads, and how far heads dominate what is repeated."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from ih_lens.errors import InputError
from ih_lens.statistics import standard_error
from ih_lens.types import HeadIndex
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_lines import depth_key
from ih_lens.viz.plotly_text import literal

_WHOLE, _WITHOUT, _OTHERS = style.LINE, style.CATEGORIES[1], style.GREY
_LEGEND = ("whole model", "without<br>the heads", "without as many<br>random heads")
_CONDITION_WIDTH = 84
_DOMINANCES = {
    "attention": "attention to earlier copies (0 to 1)",
    "attribution": "added to the logit by earlier copies (nats)",
    "dominance": "share of what all heads say (-1 to 1)",
}


def plot_loops(found: xr.Dataset) -> go.Figure:
    """How many generations have run into their loop, token by token, and how much of them is loop.

    Args:
        found: result of `generation_loops`.

    Returns:
        Two panels: the share of prompts whose loop has begun against the number of tokens generated, and the mean share
        of generated tokens that lie in a loop with two standard errors over prompts. Random groups are grey.

    Raises:
        InputError: if it is no such result.

    Examples:
        >>> prompts = random_tokens(model, length=12)
        >>> plot_loops(generation_loops(model, prompts, ["L5H1", "L5H5"], n_new=50))
    """
    if not {"in_loop", "time_to_loop"} <= set(found.data_vars) or "condition" not in found.dims:
        raise InputError("found: expected a result of generation_loops")
    names = [str(name) for name in found["condition"].to_numpy()]
    colours = [_WHOLE, _WITHOUT, *[_OTHERS] * (len(names) - 2)]
    width = 360 + max(200, _CONDITION_WIDTH * len(names))
    figure = make_subplots(1, 2, column_widths=[360, width - 360], horizontal_spacing=90 / width)
    for place in [*range(2, len(names)), 1, 0]:  # what is compared lies on top of the random ones
        begun = found["time_to_loop"].isel(condition=place).to_numpy()
        line = _line_of_begun(begun, int(found.attrs["n_tokens"]), place, names[place], colours[place])
        figure.add_trace(line, row=1, col=1)
    shares = found["in_loop"].to_numpy()
    figure.add_trace(
        go.Scatter(
            x=[_label(name) for name in names],
            y=shares.mean(axis=1),
            mode="markers",
            marker={"color": colours, "size": 9},
            error_y={"array": 2 * standard_error(shares.T), "color": style.GREY, "thickness": 1.4, "width": 4},
            showlegend=False,
            hovertemplate="%{x}: %{y:.1%}<extra></extra>",
        ),
        row=1,
        col=2,
    )
    how = f"with and without {found.attrs.get('heads', 'heads')}, temperature {found.attrs.get('temperature', 0):g}"
    frame(figure, f"Loops in generation {how}", width=width, height=style.PANEL_HEIGHT + 40)
    figure.update_xaxes(title="tokens generated", row=1, col=1)
    figure.update_yaxes(title="share of prompts in their loop", range=[-0.03, 1.03], row=1, col=1)
    figure.update_xaxes(title="condition (heads that are left out)", tickangle=0, automargin=True, row=1, col=2)
    figure.update_yaxes(title="share of tokens in a loop", range=[-0.03, 1.08], row=1, col=2)
    return figure


def _line_of_begun(
    begun: Float[np.ndarray, "example"], n_tokens: int, place: int, name: str, colour: str
) -> go.Scatter:
    """The share of prompts whose loop has begun, token by token, in one condition."""
    generated = np.arange(n_tokens + 1)
    return go.Scatter(
        x=generated,
        y=[(begun <= n).mean() for n in generated],  # false where there is none
        mode="lines",
        line={"color": colour, "width": 2.5 if place < 2 else 1.5, "dash": "dot" if place > 1 else "solid"},
        name=_LEGEND[min(place, 2)],
        legendrank=place + 1,
        showlegend=place < 3,
        hovertemplate=f"{literal(name)}<br>%{{x}} tokens: %{{y:.0%}}<extra></extra>",
    )


def _label(condition: str) -> str:
    """Two words or two heads to a line."""
    first, _, rest = literal(condition).partition(" ")
    heads = rest.split("+")
    return "<br>".join([first, *("+".join(heads[place : place + 2]) for place in range(0, len(heads), 2))])


def plot_repetition_dominance(found: xr.Dataset, measure: str = "dominance", *, n_named: int = 5) -> go.Figure:
    """What each head makes of a repeated token, the more often it was repeated.

    Args:
        found: result of `repetition_dominance`.
        measure: "dominance", "attention" or "attribution"; the last two with two standard errors over examples.
        n_named: how many heads are named at the right, those farthest from zero in the end.

    Raises:
        InputError: for another measure.

    Examples:
        >>> tokens = repeated_random_tokens(model, length=10, repeats=8)
        >>> plot_repetition_dominance(repetition_dominance(model, tokens))
    """
    if measure not in _DOMINANCES or measure not in found.data_vars:
        raise InputError(
            f"measure: expected one of {', '.join(_DOMINANCES)}, from repetition_dominance; got {measure!r}"
        )
    known = found.isel(repetitions=np.flatnonzero(found["n_examples"].to_numpy() > 0))
    values, repetitions = known[measure].transpose("layer", "head", "repetitions"), known["repetitions"].to_numpy()
    n_layers, n_heads = values.shape[:2]
    last = np.abs(values.to_numpy()[..., -1]).ravel()
    named = set(np.argsort(-last, kind="stable")[:n_named].tolist())
    figure = go.Figure()
    for place in np.argsort(last, kind="stable").tolist():
        head = HeadIndex(place // n_heads, place % n_heads)
        stderr = f"{measure}_stderr"
        bars = 2 * known[stderr].to_numpy()[head] if stderr in known and place in named else None
        figure.add_trace(
            go.Scatter(
                x=repetitions,
                y=values.to_numpy()[head],
                mode="lines+markers" if place in named else "lines",
                line={"color": _colour(head, n_layers), "width": 2 if place in named else 1},
                marker={"size": 5},
                opacity=1 if place in named else 0.5,
                error_y={"array": bars, "thickness": 1, "width": 3},
                name=str(head),
                showlegend=False,
                hovertemplate=f"{head}<br>%{{x}} times before: %{{y:.3f}}<extra></extra>",
            )
        )
    _name_at_the_right(figure, values, sorted(named))
    figure.add_trace(depth_key())
    frame(figure, "What heads make of repeated tokens", width=520, height=style.PANEL_HEIGHT + 70)
    ends = [float(repetitions[0]) - 0.2, float(repetitions[-1]) + 0.12 * max(4.0, float(np.ptp(repetitions)))]
    title = "number of times that the pair of tokens came before"
    figure.update_xaxes(title=title, range=ends, dtick=max(1, len(repetitions) // 8))
    figure.update_yaxes(title=_DOMINANCES[measure])
    return figure


def _colour(head: HeadIndex, n_layers: int) -> str:
    return str(sample_colorscale(style.DEPTH_SCALE, head.layer / max(1, n_layers - 1))[0])


def _name_at_the_right(figure: go.Figure, values: xr.DataArray, named: list[int]) -> None:
    """Names beside the ends of lines, moved apart where these lie close."""
    n_layers, n_heads = values.shape[:2]
    ends = values.to_numpy()[..., -1].ravel()
    apart = 0.055 * max(float(np.nanmax(values.to_numpy()) - np.nanmin(values.to_numpy())), 1e-9)
    lowest = -np.inf
    for place in sorted(named, key=lambda place: ends[place]):
        lowest = max(float(ends[place]), lowest + apart)
        head = HeadIndex(place // n_heads, place % n_heads)
        figure.add_annotation(
            x=float(values["repetitions"].to_numpy()[-1]),
            y=lowest,
            text=str(head),
            xanchor="left",
            xshift=6,
            showarrow=False,
            font={"size": 11, "color": _colour(head, n_layers)},
        )
