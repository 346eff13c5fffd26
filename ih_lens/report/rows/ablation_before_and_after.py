"""Row: what ablating each head undoes of the phase change."""

from ih_lens.analysis.before_and_after import attribution_to_before_and_after, before_and_after_vector
from ih_lens.report.measured import MeasuredModel
from ih_lens.report.rows._row import NotMeasured, Row, RowValues, each
from ih_lens.viz import plot_before_and_after


def _values(model: MeasuredModel) -> RowValues:
    """Attributions [snapshot, layer, head] to the change between the ends of the model's own phase change."""
    change = model.phase_change
    if change.start_index is None or change.end_index is None:
        return NotMeasured("because no phase change was found between whose ends the vector lies")
    vector = before_and_after_vector(model.at_snapshot(change.start_index), model.at_snapshot(change.end_index))
    parts = [attribution_to_before_and_after(ablated, unablated, vector) for ablated, unablated in model.ablations()]
    return model.over_snapshots(parts)


ROW = Row(
    name="ablation_before_and_after",
    title="Ablation to before-and-after vector",
    summary="One line per head, coloured by its type: below zero, ablating the head undoes what the phase change did.",
    definition="""
    Each head is ablated by itself ({ablation}, its output replaced by {replace}): pattern-preserving keeps all
    attention patterns of the unablated run and computes the rest anew; full computes everything downstream anew.
    The change of the {n_examples} token losses (ablated minus unablated, each at its example's random context
    index) is projected on the before-and-after vector: the same losses at the end of the phase change minus those
    at its start, scaled to length one. In nats; negative for a head whose ablation is like going back.

    Types of heads are those of the last snapshot: induction (prefix matching at least 0.3, copying positive), anti-
    copying prefix-matching (copying negative), previous token (at least 0.3), other.
    """,
    source='"Analyses", ablation attribution to phase change; "Data Collection", ablations',
    needs=("losses", "head_scores", "ablation"),
    values=each(_values),
    draw=lambda drawing: plot_before_and_after(drawing.values, drawing.head_types, **drawing.of_heads),
)
