"""The loss by classes of tokens over training, and the parts of the in-context learning score."""

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from ih_lens.analysis.loss_split import CHANGING_SHARES
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.viz import style
from ih_lens.viz.grid import (
    NOT_MEASURED,
    Bands,
    Panel,
    RowLayout,
    begins,
    draw_row,
    drawable,
    over_training,
    tokens_elapsed,
)
from ih_lens.viz.plotly_text import literal
from ih_lens.viz.series import uncertainty_band

_LOOKS = {
    "predictable": (style.CATEGORIES[0], "solid"),
    "mispredicted": (style.CATEGORIES[1], "dash"),
    "unmatched": (style.GREY, "dot"),
    CHANGING_SHARES: (style.CATEGORIES[3], "dashdot"),
}
_OTHERS = (style.CATEGORIES[2], *style.CATEGORIES[4:])


def plot_loss_split(
    splits: Mapping[str, Estimate | None], *, phase_changes: Bands | None = None, log_tokens: bool = False
) -> go.Figure:
    """Mean loss of each class of tokens over training, or the parts of the in-context learning score, by model.

    Args:
        splits: results of `loss_split` or `in_context_learning_split` over snapshots, by model; None where it was not
            measured.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.

    Returns:
        A row of panels that share their axes, with two standard errors to both sides.

    Raises:
        InputError: if results of both kinds are mixed, or one is not over snapshots alone.

    Examples:
        >>> split = loss_split(losses, token_classes(evals.tokens))
        >>> plot_loss_split({"2L": split}, phase_changes={"2L": (change.start, change.end)})
    """
    kinds = {_kind(split) for split in splits.values() if split is not None}
    if len(kinds) > 1:
        raise InputError("splits: expected results of loss_split or of in_context_learning_split, got both; draw two")
    dim = kinds.pop() if kinds else "token_class"
    names = list(
        dict.fromkeys(
            str(name) for split in splits.values() if split is not None for name in split.value[dim].to_numpy()
        )
    )
    free = iter(_OTHERS * len(names))
    looks = {name: _LOOKS[name] if name in _LOOKS else (next(free), "solid") for name in names}
    panels = {name: _panel(split, dim, looks, log_tokens) for name, split in splits.items()}
    title, unit = (
        ("Loss by class of token", "loss (nats)")
        if dim == "token_class"
        else ("Parts of the in-context learning score", "part of the score (nats)")
    )
    shared = RowLayout(title, "tokens elapsed", unit, over_training(log_tokens), keys=[*_keys(looks)])
    return draw_row(panels, shared, bands=phase_changes)


def _kind(split: Estimate) -> str:
    """Which dimension the lines are along."""
    for dim in ("token_class", "part"):
        if set(split.value.dims) == {"snapshot", dim}:
            return dim
    raise InputError(
        f"expected a split over snapshots, [snapshot, token_class] or [snapshot, part], got {list(split.value.dims)}; "
        "stack the snapshots' losses first, or choose heads with .isel"
    )


def _panel(split: Estimate | None, dim: str, looks: Mapping[str, tuple[str, str]], log_tokens: bool) -> Panel:
    """One model's lines, each above its band of uncertainty."""
    if split is None:
        return NOT_MEASURED
    bands: list[BaseTraceType] = []
    lines: list[BaseTraceType] = []
    for name in map(str, split.value[dim].to_numpy()):
        values, stderr = (part.sel({dim: name}, drop=True) for part in (split.value, split.stderr))
        shown = drawable(values.assign_coords(stderr=("snapshot", stderr.to_numpy())), log_tokens)
        colour, dash = looks[name]
        bands += uncertainty_band(shown, colour)
        lines.append(
            go.Scatter(
                x=tokens_elapsed(shown),
                y=shown.to_numpy(),
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                name=literal(name),
                showlegend=False,
                hovertemplate=f"{literal(name)}<br>%{{x}} tokens<br>%{{y:.3f}} nats<extra></extra>",
            )
        )
    return Panel([*bands, *lines], begins=begins(split.value, log_tokens))


def _keys(looks: Mapping[str, tuple[str, str]]) -> list[go.Scatter]:
    """The legend."""
    return [
        go.Scatter(
            x=[None], y=[None], mode="lines", line={"color": colour, "width": 2, "dash": dash}, name=literal(name)
        )
        for name, (colour, dash) in looks.items()
    ]
