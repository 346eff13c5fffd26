"""Row: derivative of the loss with respect to the logarithm of the context index."""

from ih_lens.analysis.loss_curves import loss_derivative
from ih_lens.report.rows._coarse import NOTE, thinned
from ih_lens.report.rows._row import Row, each
from ih_lens.viz import plot_loss_derivative

ROW = Row(
    name="loss_derivative",
    title="Derivative of loss with respect to context index",
    summary="How fast the loss falls with more context: where it is negative, later tokens are predicted better.",
    definition="""
    d loss / d ln(i) of the map above, i the context index, in nats per e-fold of context; negative where more
    context lowers the loss. The colour scale is symmetric around zero and ends at the 95th percentile of the
    magnitudes in the row.
    """
    + NOTE,
    source='"Analyses", per-token losses: 2D loss derivative plot',
    needs=("losses",),
    values=each(lambda model: loss_derivative(model.losses)),
    draw=lambda drawing: plot_loss_derivative(
        {name: thinned(values) for name, values in drawing.values.items()}, **drawing.over_training
    ),
)
