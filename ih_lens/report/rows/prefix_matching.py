"""Row: prefix matching score of every head over training."""

from ih_lens.report.rows._row import Row, each
from ih_lens.viz import plot_prefix_matching

ROW = Row(
    name="prefix_matching",
    title="Prefix matching score",
    summary="One line per attention head, coloured by the depth of its layer: an induction head comes near 1.",
    definition="""
    Random tokens, 25 by default, are drawn without replacement and repeated four times, after a start token where
    the model has one; 10 such examples. Each query in the second or a later repeat has as targets all positions
    directly after an earlier occurrence of its own token. The head's score is the attention that a query pays to
    its targets, summed, then averaged over queries and examples: from 0 to 1. In contexts too short for four times
    25 tokens the period is shortened.
    """,
    source='"Data Collection", head activation evaluators: prefix matching',
    needs=("head_scores",),
    values=each(lambda model: model.head_scores["prefix_matching"]),
    draw=lambda drawing: plot_prefix_matching(drawing.values, **drawing.of_heads),
)
