"""Row: the path of each model through the first two principal components of its token losses."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ih_lens.analysis.token_loss_pca import MIN_SNAPSHOTS, token_loss_pca
from ih_lens.report.measured import MeasuredModel
from ih_lens.report.rows._row import Drawing, NotMeasured, Row, RowValues
from ih_lens.viz import plot_token_loss_pca


def _values(models: Sequence[MeasuredModel]) -> list[RowValues]:
    """One joint fit, so that all models lie in one space."""
    n_snapshots = sum(len(model.steps) for model in models)
    if n_snapshots < MIN_SNAPSHOTS:
        return [NotMeasured(f"because {n_snapshots} snapshots in all are fewer than {MIN_SNAPSHOTS}")] * len(models)
    pca = token_loss_pca([model.losses for model in models])
    ratios = [float(ratio) for ratio in pca.explained_variance_ratio]
    return [projection.assign_attrs(explained_variance_ratio=ratios) for projection in pca.projections]


def _draw(drawing: Drawing) -> go.Figure:
    ratios = [values.attrs["explained_variance_ratio"] for values in drawing.values.values() if values is not None]
    return plot_token_loss_pca(
        drawing.values,
        explained_variance_ratio=ratios[0] if ratios else None,
        phase_changes=drawing.phase_changes,
    )


ROW = Row(
    name="token_loss_pca",
    title="PCA of token losses",
    summary=(
        "Each model's path through the space of its {n_examples} token losses, from its first snapshot to its last."
    ),
    definition="""
    From each of the {n_examples} evaluation examples the loss of one token is taken, at a context index that was
    drawn once at random from 1 to the last and is the same for every snapshot and model. A snapshot is thus a
    vector of {n_examples} losses in nats.

    The vectors of all snapshots of all models in this table are centred together, not standardised, and projected
    on the first two principal components of that one joint fit, so that the panels share one space. The sign of a
    component means nothing and is fixed by a rule. Snapshots inside the phase change are outlined in orange.
    """,
    source='"Analyses", per-token losses: PCA',
    needs=("losses",),
    values=_values,
    draw=_draw,
)
