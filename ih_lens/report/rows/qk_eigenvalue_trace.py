"""Row: trace of the QK eigenvalues of every head over training."""

from ih_lens.report.measured import MeasuredModel
from ih_lens.report.rows._row import NotMeasured, Row, RowValues, each
from ih_lens.viz import plot_qk_eigenvalue_trace


def _values(model: MeasuredModel) -> RowValues:
    values = model.head_scores["qk_eigenvalue_trace"]
    if bool(values.isnull().all()):
        return NotMeasured("because it needs earlier layers to compose with")
    return values


ROW = Row(
    name="qk_eigenvalue_trace",
    title="Trace of QK eigenvalues",
    summary=(
        "One line per head from the second layer on: whether its weights, composed with previous-token heads, "
        "match a token with itself."
    ),
    definition="""
    For a head h from the second layer on: the trace of the sum, over all heads k of earlier layers, of p_k W_E
    W_Q^h (W_K^h)^T (W_V^k W_O^k)^T W_E^T, where p_k is the previous-token attention of k on held-out examples. It
    is the sum of the eigenvalues of the circuit by which h matches a token with the token after its earlier
    occurrence; large and positive when equal tokens match. It has no unit and depends on the scale of the weights.
    LayerNorm's gain and centring are folded into the weights, biases and its scale are left out.

    Heads of the first layer have no earlier heads and no value. For rotary positions it is defined without
    position.
    """,
    source='"Data Collection", trace of QK eigenvalues',
    needs=("head_scores",),
    values=each(_values),
    draw=lambda drawing: plot_qk_eigenvalue_trace(drawing.values, **drawing.of_heads),
)
