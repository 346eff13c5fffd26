"""How far two measures of the same heads agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.errors import InputError
from ih_lens.results import HeadScores


@dataclass(frozen=True)
class ScoreAgreement:
    """Correlations of two measures over heads.

    Attributes:
        x, y: names of the measures.
        pearson: correlation of the scores, -1 to 1; NaN where it is not defined.
        spearman: correlation of their ranks, -1 to 1; NaN where it is not defined.
        n_heads: heads with both scores, which the correlations are of.
        n_undefined: heads left out because one of the two is NaN.
    """

    x: str
    y: str
    pearson: float
    spearman: float
    n_heads: int
    n_undefined: int


def score_agreement(scores: HeadScores | Sequence[HeadScores], x: str, y: str) -> ScoreAgreement:
    """Pearson and Spearman correlation of two measures over the heads of one model, or of several together.

    Args:
        scores: of one model, or of each of several; the last snapshot counts where snapshots were stacked.
        x: name of a measure.
        y: name of another one.

    Raises:
        InputError: if a measure is missing, or no scores are given.

    Examples:
        >>> score_agreement(scores, "copying", "ov_copying_eigenvalues").pearson
        0.86

    The paper's appendix validates its head activation evaluators so ("Validating head activation evaluators").
    """
    models = [scores] if isinstance(scores, HeadScores) else list(scores)
    if not models:
        raise InputError("scores: expected those of at least one model, got none")
    columns = {name: [number for model in models for number in _numbers(model, name)] for name in (x, y)}
    both = pd.DataFrame({"x": columns[x], "y": columns[y]}, dtype=float)
    known = both.dropna()
    pearson, spearman = (float(known.corr(method).loc["x", "y"]) for method in ("pearson", "spearman"))
    return ScoreAgreement(x, y, pearson, spearman, n_heads=len(known), n_undefined=len(both) - len(known))


def _numbers(scores: HeadScores, name: str) -> list[float]:
    """A measure of all heads of one model."""
    return last_snapshot(scores[name]).to_numpy().ravel().tolist()
