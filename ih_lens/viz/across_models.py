"""Losses of many models in one panel: along the context, and their derivative over training."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from ih_lens.analysis.loss_over_tokens import DerivativeOrder
from ih_lens.errors import InputError
from ih_lens.validate import at_least
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.grid import Bands, Results, band_key, check_names, label_few_decades, over_training, tokens_elapsed
from ih_lens.viz.heat_maps import INDEX_TICKS
from ih_lens.viz.model_lines import HEIGHT, WIDTH, line_looks, measured
from ih_lens.viz.plotly_text import literal

_ORDER_HEIGHT = 130


def plot_losses_across_context(losses: Results, *, smoothing: int = 0, relative_to: str | None = None) -> go.Figure:
    """Loss by context index, a line per model: how much better large models are, and from which index on.

    The paper uses it to show that large models gain their advantage within the first tokens.

    Args:
        losses: result of `loss_by_context_index` of one snapshot [context_index] per model, in nats, from the smallest
            to the largest model, which become darker in this order. None leaves a model out.
        smoothing: each point is the mean over so many indices to both sides; at the ends over as many as there are on
            the shorter side, so that the first index stays what it is. The axis says so.
        relative_to: a model whose losses are subtracted from all.

    Raises:
        InputError: if a result has other dimensions, or `relative_to` is not among the models or was measured at
            other indices.

    Examples:
        >>> plot_losses_across_context({name: loss_by_context_index(losses) for name, losses in final.items()})
    """
    known = measured(losses, "context_index")
    at_least("smoothing", smoothing, 0)
    smooth = {name: _smoothed(values, smoothing) for name, values in known.items()}
    if relative_to is not None:
        check_names(known, {relative_to: None}, "relative_to: losses")
        smooth = {name: _less(name, values, smooth[relative_to]) for name, values in smooth.items()}
    figure = go.Figure()
    for name, look in line_looks(list(smooth)).items():
        figure.add_scatter(
            x=smooth[name]["context_index"].to_numpy(),
            y=smooth[name].to_numpy(),
            mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            name=literal(name),
            showlegend=True,
            hovertemplate=f"{literal(name)}<br>context index %{{x}}<br>%{{y:.3f}} nats<extra></extra>",
        )
    what = "loss" if relative_to is None else f"loss minus that of {literal(relative_to)}"
    window = f"nats, mean over {2 * smoothing + 1} indices" if smoothing else "nats"
    figure.update_xaxes(title="context index (tokens)", type="log", tickvals=INDEX_TICKS)
    figure.update_yaxes(title=f"{what} ({window})")
    frame(figure, "Loss across the context", width=WIDTH, height=HEIGHT)
    return figure


def _smoothed(values: xr.DataArray, smoothing: int) -> xr.DataArray:
    """The mean over equally many neighbours to both sides."""
    places = np.arange(values.size)
    reach = np.minimum(smoothing, np.minimum(places, places[::-1]))
    sums = np.concatenate([[0], values.to_numpy().astype(np.float64).cumsum()])
    return values.copy(data=(sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1))


def _less(name: str, values: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """The difference of two models' losses at the same indices."""
    if not np.array_equal(values["context_index"], reference["context_index"]):
        raise InputError(f"{name} was measured at other context indices than the model to subtract; measure both alike")
    return values - reference.to_numpy()


def plot_loss_token_derivative(
    derivatives: Results, *, order: DerivativeOrder | None = None, phase_changes: Bands | None = None
) -> go.Figure:
    """Derivative of the loss with respect to ln(tokens elapsed), a line per model, and where their order inverts.

    Args:
        derivatives: result of `loss_token_derivative` [snapshot] per model, in nats, from the smallest to the largest
            model, which become darker in this order. None leaves a model out.
        order: result of `loss_derivative_order`: drawn below, with the inversions as lines through both panels.
        phase_changes: start and end in tokens elapsed per model; where several overlap, the colour is stronger.

    Raises:
        InputError: if a result has other dimensions, or there is a phase change of a model that is not drawn.

    Examples:
        >>> slopes = {name: loss_token_derivative(losses, span=0.2) for name, losses in models.items()}
        >>> plot_loss_token_derivative(slopes, order=loss_derivative_order(slopes, n_parameters))
    """
    known = measured(derivatives, "snapshot")
    check_names(derivatives, phase_changes or {}, "phase changes")
    height = 300 + (_ORDER_HEIGHT if order else 0)
    rows = [300 / height, _ORDER_HEIGHT / height] if order else [1.0]
    figure = make_subplots(len(rows), 1, shared_xaxes=True, row_heights=rows, vertical_spacing=24 / height)
    for name, look in line_looks(list(known)).items():
        figure.add_scatter(
            x=tokens_elapsed(known[name]),
            y=known[name].to_numpy(),
            mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            name=literal(name),
            showlegend=True,
            hovertemplate=f"{literal(name)}<br>%{{x}} tokens<br>%{{y:.3f}} nats<extra></extra>",
            row=1,
            col=1,
        )
    figure.update_yaxes(title="slope (nats per e-fold of tokens)", row=1, col=1)
    figure.update_xaxes(over_training(log_tokens=True))
    label_few_decades(figure)
    figure.update_xaxes(title="tokens elapsed", row=len(rows), col=1)
    if order is not None:
        _draw_order(figure, order)
    _mark_phase_changes(figure, phase_changes or {})
    frame(figure, "Derivative of the loss with respect to ln(tokens elapsed)", width=WIDTH, height=height)
    return figure


def _draw_order(figure: go.Figure, order: DerivativeOrder) -> None:
    """The rank correlation below, and its inversions through both panels."""
    figure.add_scatter(
        x=tokens_elapsed(order.order),
        y=order.order.to_numpy(),
        mode="lines",
        line={"color": style.LINE, "width": 2},
        name="order",
        showlegend=False,
        hovertemplate="%{x} tokens<br>order %{y:.2f}<extra></extra>",
        row=2,
        col=1,
    )
    title = "order (−1 smaller,<br>1 larger falls faster)"
    figure.update_yaxes(title=title, range=[-1.15, 1.15], tickvals=[-1, 0, 1], row=2, col=1)
    for tokens in order.inversions:
        line = {"color": style.TEXT, "width": 1.4, "dash": "dot"}
        figure.add_shape(
            type="line", x0=tokens, x1=tokens, y0=0, y1=1, xref="x", yref="paper", line=line, name="inversion"
        )
    if order.inversions:
        line = {"color": style.TEXT, "width": 1.4, "dash": "dot"}
        figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name="order inverts", row=1, col=1)


def _mark_phase_changes(figure: go.Figure, bands: Bands) -> None:
    """A band per model over all panels; they add up where they overlap."""
    known = [band for band in bands.values() if band]
    for start, end in known:
        look = {**style.BAND, "opacity": style.BAND_OPACITY / len(known), "fillcolor": style.PHASE_CHANGE}
        span = {"x0": start, "x1": end, "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
        figure.add_shape(type="rect", name="phase change", **look, **span)
    if known:
        figure.add_trace(band_key(), row=1, col=1)
