"""Row: in-context learning score over training."""

from ih_lens.report.rows._row import Row, each
from ih_lens.viz import plot_in_context_learning

ROW = Row(
    name="in_context_learning_score",
    title="In-context learning score",
    summary="Loss at context index {late} minus loss at {early}: the lower, the more is learned in context.",
    definition="""
    Mean loss at context index {late} minus mean loss at context index {early}, in nats; negative when later tokens
    are predicted better. Both are taken from the same {n_examples} examples, averaged over {window} indices to each
    side, and the band is two standard errors over examples wide on each side. The paper's indices are 500 and 50;
    in contexts too short for them the same shares of 512 are used.

    The orange band is the phase change: the run of snapshots around the steepest fall of this score (slope of a
    running median of three) in which the slope is at least a quarter of the steepest. It counts as found only if
    the fall inside is at least three standard errors and at least half of the final score. It is never set by hand.
    """,
    source='"Analyses", per-token losses: in-context learning score',
    needs=("losses",),
    values=each(lambda model: model.in_context_learning),
    draw=lambda drawing: plot_in_context_learning(drawing.values, **drawing.over_training),
)
