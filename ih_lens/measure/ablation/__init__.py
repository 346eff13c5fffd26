"""Ablating attention heads: one file per kind, one line in this table."""

from ih_lens.measure.ablation._base import AblationKind
from ih_lens.measure.ablation.full import Full
from ih_lens.measure.ablation.pattern_preserving import PatternPreserving

ABLATIONS: dict[str, AblationKind] = {
    "pattern_preserving": PatternPreserving(),
    "full": Full(),
}
