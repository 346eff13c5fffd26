"""Rows with one line per attention head over training, coloured by depth or by type."""

import plotly.graph_objects as go

from ih_lens.viz.grid import NOT_MEASURED, Bands, Results, RowLayout, draw_row, over_training
from ih_lens.viz.head_lines import depth_key, depth_panel, type_keys, type_panel
from ih_lens.viz.opaque import Opaque, chosen_opaque


def plot_heads_by_depth(
    scores: Results,
    *,
    title: str,
    unit: str,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
    opaque: Opaque = True,
) -> go.Figure:
    """Any measure of heads over training: one panel per model, one line per head, coloured from early to late layers.

    Args:
        scores: [snapshot, layer, head] per model; None where it was not measured. A head that is NaN at every
            snapshot gets no line, and a model of only such heads is marked as "not defined".
        title: heading of the row.
        unit: what the measure is, with its unit.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.
        opaque: which heads are opaque, the others being translucent. True: of models with more than 100 heads a sample
            (see `ih_lens.opaque_heads`) that favours high magnitudes of what is drawn; False: all; or [layer, head] of
            bool per model, such as `opaque_heads` of their prefix matching.

    Raises:
        InputError: if a result is not stacked over snapshots.

    Examples:
        >>> plot_heads_by_depth({"2L": scores["copying"]}, title="Copying", unit="score (-1 to 1)")
    """
    panels = {
        name: NOT_MEASURED if values is None else depth_panel(values, chosen_opaque(opaque, name, values), log_tokens)
        for name, values in scores.items()
    }
    shared = RowLayout(title, "tokens elapsed", unit, over_training(log_tokens), keys=[depth_key()])
    return draw_row(panels, shared, bands=phase_changes)


def plot_prefix_matching(
    scores: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False, opaque: Opaque = True
) -> go.Figure:
    """Prefix matching score of every head over training, 0 to 1; arguments as `plot_heads_by_depth`."""
    return plot_heads_by_depth(
        scores,
        title="Prefix matching score of each head",
        unit="score (0 to 1)",
        phase_changes=phase_changes,
        log_tokens=log_tokens,
        opaque=opaque,
    )


def plot_qk_eigenvalue_trace(
    traces: Results, *, phase_changes: Bands | None = None, log_tokens: bool = False, opaque: Opaque = True
) -> go.Figure:
    """Trace of the QK eigenvalues of every head over training; arguments as `plot_heads_by_depth`."""
    return plot_heads_by_depth(
        traces,
        title="Trace of QK eigenvalues of each head",
        unit="trace (no unit)",
        phase_changes=phase_changes,
        log_tokens=log_tokens,
        opaque=opaque,
    )


def plot_heads_by_type(
    attributions: Results,
    types: Results,
    *,
    title: str,
    unit: str,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
    opaque: Opaque = True,
) -> go.Figure:
    """Any measure of heads over training: one panel per model, one line per head, coloured by the head's type.

    Args:
        attributions: [snapshot, layer, head] per model; None where it was not measured.
        types: result of `head_types` [layer, head] per model; a model without types has all its heads as "other".
        title: heading of the row.
        unit: what the measure is, with its unit.
        phase_changes: start and end in tokens elapsed per model.
        log_tokens: logarithmic axis; the snapshot at 0 tokens is then left out, and the figure says so.
        opaque: which heads are opaque, the others being translucent. True: of models with more than 100 heads a sample
            (see `ih_lens.opaque_heads`) that favours high magnitudes of what is drawn; False: all; or [layer, head] of
            bool per model, such as `opaque_heads` of their prefix matching.

    Raises:
        InputError: if a type is unknown, or types and measure disagree about the number of heads.

    Examples:
        >>> plot_heads_by_type({"2L": drops}, {"2L": head_types(scores)}, title="Ablation", unit="change (nats)")
    """
    panels = {
        name: NOT_MEASURED
        if values is None
        else type_panel(values, types.get(name), chosen_opaque(opaque, name, values), log_tokens)
        for name, values in attributions.items()
    }
    shared = RowLayout(title, "tokens elapsed", unit, over_training(log_tokens), keys=type_keys())
    return draw_row(panels, shared, bands=phase_changes)


def plot_before_and_after(
    attributions: Results,
    types: Results,
    *,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
    opaque: Opaque = True,
) -> go.Figure:
    """Ablation of every head, projected on the before-and-after vector; arguments as `plot_heads_by_type`."""
    return plot_heads_by_type(
        attributions,
        types,
        title="Ablation: attribution of each head to the before-and-after vector",
        unit="projection (nats)",
        phase_changes=phase_changes,
        log_tokens=log_tokens,
        opaque=opaque,
    )


def plot_in_context_learning_attribution(
    attributions: Results,
    types: Results,
    *,
    phase_changes: Bands | None = None,
    log_tokens: bool = False,
    opaque: Opaque = True,
) -> go.Figure:
    """Change of the in-context learning score by ablating every head; arguments as `plot_heads_by_type`."""
    return plot_heads_by_type(
        attributions,
        types,
        title="Ablation: attribution of each head to the in-context learning score",
        unit="change of score (nats)",
        phase_changes=phase_changes,
        log_tokens=log_tokens,
        opaque=opaque,
    )
