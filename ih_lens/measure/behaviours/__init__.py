"""Behaviours of heads on text: one file each, and one line in this table."""

from ih_lens.measure.behaviours._base import Behaviour
from ih_lens.measure.behaviours.literal_copying import LiteralCopying
from ih_lens.measure.behaviours.pattern_matching import PatternMatching
from ih_lens.measure.behaviours.translation import Translation

BEHAVIOURS: dict[str, Behaviour] = {
    LiteralCopying.name: LiteralCopying(),
    Translation.name: Translation(),
    PatternMatching.name: PatternMatching(),
}
"""The behaviours of the paper's Argument 4 on the project's own texts, by name, in the order of results."""
