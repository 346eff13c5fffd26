"""Losses of single tokens: their change over a text, and their course over training."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.viz import style
from ih_lens.viz.coloured_tokens import Colouring, Scale, coloured_text, scale_limit
from ih_lens.viz.grid import (
    NOT_MEASURED,
    Bands,
    Panel,
    Results,
    RowLayout,
    begins,
    draw_row,
    drawable,
    over_training,
    tokens_elapsed,
)
from ih_lens.viz.local_html import LocalHTML
from ih_lens.viz.plotly_text import literal
from ih_lens.viz.visible_tokens import visible_token

_DASHES = ("solid", "dash", "dot")


def coloured_loss_differences(
    differences: xr.DataArray,
    tokens: Sequence[str],
    *,
    example: int = 0,
    limit: float | None = None,
    title: str = "Change of each token's loss",
) -> LocalHTML:
    """Colour a text by how the loss of each token changed: blue where it is predicted better after, orange where worse.

    Hovering a token says its loss before, its loss after, and the difference; a click keeps that shown. Tokens
    without a loss, such as the first, are grey.

    Args:
        differences: result of `token_loss_differences` [example, context_index], in nats.
        tokens: texts of all tokens of the example, the first included, such as `token_texts` gives.
        example: which example.
        limit: nats that get the fullest colour, also for what lies beyond; the largest difference by default.
        title: heading.

    Raises:
        InputError: if these are no such differences, or not of these tokens.

    Examples:
        >>> differences = ih.token_loss_differences(losses, snapshots=(0, -1))
        >>> texts = ih.token_texts(run.snapshots[-1].load(), run.held_out[0])
        >>> ih.viz.coloured_loss_differences(differences, texts).save("change.html")
        PosixPath('change.html')

    The paper's figure of per-token losses before and after the phase change (Analyses, Per-token losses).
    """
    if not isinstance(differences, xr.DataArray) or not {"loss_before", "loss_after"} <= set(differences.coords):
        raise InputError(f"expected the result of token_loss_differences, got {type(differences).__name__}")
    if differences.dims != ("example", "context_index"):
        raise InputError(f"expected differences [example, context_index], got dimensions {differences.dims}")
    if not 0 <= example < differences.sizes["example"]:
        raise InputError(f"example: expected 0 to {differences.sizes['example'] - 1}, got {example}")
    shown = differences.isel(example=example)
    indices = shown["context_index"].to_numpy()
    if len(tokens) != indices.max() + 1:
        raise InputError(
            f"tokens: expected {indices.max() + 1}, all of the example and the first one too, got {len(tokens)}"
        )
    change, before, after = (
        _by_position(numbers, indices, len(tokens)) for numbers in (shown, shown["loss_before"], shown["loss_after"])
    )
    says = [
        "no loss: nothing predicts this token"
        if np.isnan(losses[0])
        else f"loss {_signed(losses[0])} nats   {losses[1]:.2f} before, {losses[2]:.2f} after"
        for losses in zip(change, before, after, strict=True)
    ]
    extent = scale_limit(change, limit)
    scale = Scale(
        extent,
        style.ABOVE_ZERO,
        style.BELOW_ZERO,
        f"predicted better, by {extent:.2f} nats",
        f"worse, by {extent:.2f} nats",
        "no loss",
    )
    return coloured_text(title, tokens, [Colouring("difference", change, says)], scale)


def plot_chosen_token_losses(
    losses: Results,
    *,
    texts: Sequence[str] | None = None,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
) -> go.Figure:
    """Loss of a few tokens over training, one panel per model, one line per token.

    Args:
        losses: result of `chosen_token_losses` [snapshot, token] per model, in nats, the same tokens for all; None
            where it was not measured.
        texts: of the tokens, in their order, for the legend.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels that share their axes. The legend names each token by its text and its place.

    Raises:
        InputError: if the models' tokens differ, or there are more than 21.

    Examples:
        >>> chosen = [(0, 8), (1, 3)]
        >>> texts = ih.token_texts(run.snapshots[-1].load(), [int(run.held_out[place]) for place in chosen])
        >>> figure = ih.viz.plot_chosen_token_losses({"2L": ih.chosen_token_losses(losses, chosen)}, texts=texts)
    """
    labels = _labels([values for values in losses.values() if values is not None], texts)
    panels = {
        name: NOT_MEASURED if values is None else _panel(values, labels, log_tokens) for name, values in losses.items()
    }
    keys = [
        go.Scatter(x=[None], y=[None], mode="lines", line=_line(place), name=label, showlegend=True)
        for place, label in enumerate(labels)
    ]
    shared = RowLayout("Loss of single tokens", "tokens elapsed", "loss (nats)", over_training(log_tokens), keys=keys)
    return draw_row(panels, shared, bands=phase_changes)


def _by_position(values: xr.DataArray, indices: np.ndarray, n_pos: int) -> np.ndarray:
    """One number per token, NaN for those without."""
    found = np.full(n_pos, np.nan)
    found[indices] = values.to_numpy()
    return found


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _labels(results: Sequence[xr.DataArray], texts: Sequence[str] | None) -> list[str]:
    """What the legend calls each token."""
    places = [_places(values) for values in results]
    if not places or any(found != places[0] for found in places):
        raise InputError("expected the losses of at least one model, and of the same tokens for all models")
    if len(places[0]) > len(style.CATEGORIES) * len(_DASHES):
        raise InputError(f"expected at most 21 tokens, so that lines can be told apart; got {len(places[0])}")
    if texts is not None and len(texts) != len(places[0]):
        raise InputError(f"texts: expected {len(places[0])}, one per token, got {len(texts)}")
    several = len({example for example, _ in places[0]}) > 1
    names = [""] * len(places[0]) if texts is None else [f"{literal(visible_token(text))} " for text in texts]
    return [
        f"{name}({f'example {example}, ' * several}index {index})"
        for name, (example, index) in zip(names, places[0], strict=True)
    ]


def _places(values: xr.DataArray) -> list[tuple[int, int]]:
    if values.dims != ("snapshot", "token"):
        raise InputError(f"expected the result of chosen_token_losses, got dimensions {values.dims}")
    return list(zip(values["example"].to_numpy().tolist(), values["context_index"].to_numpy().tolist(), strict=True))


def _panel(values: xr.DataArray, labels: Sequence[str], log_tokens: bool) -> Panel:
    shown = drawable(values, log_tokens)
    lines = [
        go.Scatter(
            x=tokens_elapsed(shown),
            y=shown.isel(token=place).to_numpy(),
            mode="lines",
            line=_line(place),
            name=label,
            showlegend=False,
            hovertemplate="%{x} tokens<br>%{y:.2f} nats",
        )
        for place, label in enumerate(labels)
    ]
    return Panel(lines, begins=begins(values, log_tokens))


def _line(place: int) -> dict[str, object]:
    n_colours = len(style.CATEGORIES)
    return {"color": style.CATEGORIES[place % n_colours], "dash": _DASHES[place // n_colours], "width": 1.8}
