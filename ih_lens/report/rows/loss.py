"""Row: loss over training."""

from ih_lens.analysis.loss_curves import loss_curve
from ih_lens.report.rows._row import Row, each
from ih_lens.viz import plot_loss

ROW = Row(
    name="loss",
    title="Loss over training",
    summary="Mean loss on the evaluation set after so many tokens of training.",
    definition="""
    The mean over the {n_examples} evaluation examples of -log p(token | all tokens before it), in nats, at each
    example's one random context index. The band around the line is two standard errors over examples wide on each
    side.
    """,
    source='"Analyses", per-token losses: loss curve',
    needs=("losses",),
    values=each(lambda model: loss_curve(model.losses)),
    draw=lambda drawing: plot_loss(drawing.values, **drawing.over_training),
)
