"""Row: loss by context index, over training."""

from ih_lens.analysis.loss_curves import loss_by_context_index
from ih_lens.report.rows._coarse import NOTE, thinned
from ih_lens.report.rows._row import Row, each
from ih_lens.viz import plot_loss_by_context_index

ROW = Row(
    name="loss_by_context_index",
    title="Loss by context index",
    summary="The same loss broken down: upwards the place of the predicted token in its context, logarithmic.",
    definition="""
    The mean over the {n_examples} evaluation examples of the loss in nats of the token at context index i. Index i
    is zero-based in the sequence that the model sees and labels the token that is predicted, from tokens 0 to i -
    1; index 0 has no loss, so the map begins at 1.
    """
    + NOTE,
    source='"Analyses", per-token losses: 2D in-context learning plot',
    needs=("losses",),
    values=each(lambda model: loss_by_context_index(model.losses)),
    draw=lambda drawing: plot_loss_by_context_index(
        {name: thinned(values) for name, values in drawing.values.items()}, **drawing.over_training
    ),
)
