"""Scatters of one measure of heads against another, with their correlations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import plotly.graph_objects as go

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.analysis.score_agreement import score_agreement
from ih_lens.results import HeadScores
from ih_lens.viz.grid import NOT_DEFINED, Panel, RowLayout, draw_row
from ih_lens.viz.head_lines import depth_key
from ih_lens.viz.head_points import BY_DEPTH, head_points, of_each_model, point_looks
from ih_lens.viz.measure_names import measure_heading, measure_name, measure_title
from ih_lens.viz.opaque import TRANSLUCENT, Opaque, chosen_opaque, some_translucent

_CORRELATIONS = "r: Pearson's, ρ: Spearman's correlation, over the heads that have both scores."


def plot_score_agreement(
    scores: Mapping[str, HeadScores], x: str, y: str, *, together: bool = False, opaque: Opaque = True
) -> go.Figure:
    """One measure of heads against another, with the correlations of both over all heads.

    Args:
        scores: per model; the last snapshot counts where snapshots were stacked.
        x: measure to the right.
        y: measure upwards.
        together: all models in one panel, coloured by model, and one correlation; else a panel per model, coloured by
            depth.
        opaque: which heads are opaque, as in `plot_heads_by_depth`; the correlations are over all.

    Raises:
        InputError: if there is no model, or one lacks a measure.

    Examples:
        >>> plot_score_agreement({"gpt2": scores}, "ov_copying_eigenvalues", "copying")
    """
    models = of_each_model(scores)
    looks = point_looks(list(models)) if together else dict.fromkeys(models, BY_DEPTH)
    panels: dict[str, Panel] = {}
    for name, of_model in models.items():
        right, up = last_snapshot(of_model[x]), last_snapshot(of_model[y])
        sample = chosen_opaque(opaque, name, up)
        titles = (measure_name(x), measure_name(y))
        points = head_points(name, right, up, titles=titles, look=looks[name], opaque=sample, legend=together)
        panels[name] = (
            Panel(points, remark=TRANSLUCENT if some_translucent([sample]) else "") if points else NOT_DEFINED
        )
    if together:
        traces = [trace for panel in panels.values() for trace in panel.traces]
        panels = {"all models": Panel(traces, remark=max(panel.remark for panel in panels.values()))}
    parts = {name: list(models.values()) if together else [models[name]] for name in panels}
    headed = {name: replace(panel, below=_correlations(parts[name], x, y)) for name, panel in panels.items()}
    first = next(iter(models.values()))
    shared = RowLayout(
        f"{measure_heading(y)} against {measure_name(x)}",
        measure_title(first[x]),
        measure_title(first[y]),
        keys=[] if together else [depth_key()],
        x_matches=None,
        remarks=[_CORRELATIONS],
    )
    return draw_row(headed, shared)


def plot_copying_validation(
    scores: Mapping[str, HeadScores], *, together: bool = False, opaque: Opaque = True
) -> go.Figure:
    """Copying score of each head against the eigenvalues of its OV circuit; arguments as `plot_score_agreement`.

    The paper's appendix shows that both agree ("Validating head activation evaluators").

    Examples:
        >>> plot_copying_validation({"gpt2": scores})
    """
    return plot_score_agreement(scores, "ov_copying_eigenvalues", "copying", together=together, opaque=opaque)


def plot_prefix_matching_validation(
    scores: Mapping[str, HeadScores], *, together: bool = False, opaque: Opaque = True
) -> go.Figure:
    """Prefix matching score of each head against the trace of its QK eigenvalues; arguments as `plot_score_agreement`.

    Heads of the first layer have no trace and are left out. The paper's appendix shows that both agree ("Validating
    head activation evaluators").

    Examples:
        >>> plot_prefix_matching_validation({"gpt2": scores})
    """
    return plot_score_agreement(scores, "qk_eigenvalue_trace", "prefix_matching", together=together, opaque=opaque)


def _correlations(scores: Sequence[HeadScores], x: str, y: str) -> str:
    """What stands below a panel's name."""
    agreement = score_agreement(scores, x, y)
    known = f"{agreement.n_heads} of {agreement.n_heads + agreement.n_undefined} heads"
    if not math.isfinite(agreement.pearson):
        return f"<span style='font-size:11px'>no correlation; {known}</span>"
    return f"<span style='font-size:11px'>r {agreement.pearson:.2f}, ρ {agreement.spearman:.2f}; {known}</span>"
