"""The rows of the Model Analysis Table: one file per row, one line in this table, in the paper's order."""

from ih_lens.report.rows import (
    ablation_before_and_after,
    ablation_in_context_learning,
    in_context_learning_score,
    loss,
    loss_by_context_index,
    loss_derivative,
    prefix_matching,
    qk_eigenvalue_trace,
    token_loss_pca,
)
from ih_lens.report.rows._row import Drawing as Drawing
from ih_lens.report.rows._row import NotMeasured as NotMeasured
from ih_lens.report.rows._row import Row as Row
from ih_lens.report.rows._row import each as each

PAPER_ROWS: tuple[Row, ...] = (
    token_loss_pca.ROW,
    loss.ROW,
    loss_by_context_index.ROW,
    loss_derivative.ROW,
    in_context_learning_score.ROW,
    prefix_matching.ROW,
    qk_eigenvalue_trace.ROW,
    ablation_before_and_after.ROW,
    ablation_in_context_learning.ROW,
)
"""Every row of the paper's table."""
