"""Row: what each head contributes to the in-context learning score."""

from ih_lens.analysis.in_context_learning import attribution_to_in_context_learning
from ih_lens.report.measured import MeasuredModel
from ih_lens.report.rows._row import Row, RowValues, each
from ih_lens.viz import plot_in_context_learning_attribution


def _values(model: MeasuredModel) -> RowValues:
    """Attributions [snapshot, layer, head] with paired standard errors."""
    parts = [
        attribution_to_in_context_learning(ablated, unablated, **model.scoring)
        for ablated, unablated in model.ablations()
    ]
    return model.over_snapshots(parts)


ROW = Row(
    name="ablation_in_context_learning",
    title="Ablation attribution to in-context learning score",
    summary="One line per head, coloured by its type: above zero, ablating the head takes away in-context learning.",
    definition="""
    Each head is ablated by itself ({ablation}, its output replaced by {replace}); shown is the in-context learning
    score (context index {late} minus {early}) of the ablated model minus that of the unablated one on the same
    {n_examples} examples, in nats. The score is negative, so a positive value is in-context learning lost.
    Induction heads of one model often stand in for each other: ablating one changes little. The effect of ablating
    all of them together is in the summary of the model.
    """,
    source='"Analyses", ablation attribution to phase change: second view',
    needs=("losses", "head_scores", "ablation"),
    values=each(_values),
    draw=lambda drawing: plot_in_context_learning_attribution(drawing.values, drawing.head_types, **drawing.of_heads),
)
