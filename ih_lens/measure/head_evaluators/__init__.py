"""Head evaluators: one file each, and one line in a table."""

from ih_lens.measure.head_evaluators._base import HeadEvaluator
from ih_lens.measure.head_evaluators.anti_induction import AntiInductionEvaluator
from ih_lens.measure.head_evaluators.best_offset import BestOffsetAttentionEvaluator, BestOffsetEvaluator
from ih_lens.measure.head_evaluators.copy_recency import FarthestCopyEvaluator, NearestCopyEvaluator
from ih_lens.measure.head_evaluators.copying import CopyingEvaluator
from ih_lens.measure.head_evaluators.duplicate_token import DuplicateTokenEvaluator
from ih_lens.measure.head_evaluators.entities import ConceptInductionEvaluator, TokenInductionEvaluator
from ih_lens.measure.head_evaluators.fuzzy_matches import FuzzyMatchEvaluator
from ih_lens.measure.head_evaluators.longer_prefixes import (
    FourTokenPrefixEvaluator,
    ThreeTokenPrefixEvaluator,
    TwoTokenPrefixEvaluator,
)
from ih_lens.measure.head_evaluators.prefix_matching import PrefixMatchingEvaluator
from ih_lens.measure.head_evaluators.previous_token import PreviousTokenEvaluator

EVALUATORS: dict[str, HeadEvaluator] = {
    PrefixMatchingEvaluator.name: PrefixMatchingEvaluator(),
    CopyingEvaluator.name: CopyingEvaluator(),
    PreviousTokenEvaluator.name: PreviousTokenEvaluator(),
}
"""The paper's evaluators with its parameters, by name, in the order in which results list them."""

INDUCTION_KINDS: dict[str, HeadEvaluator] = {
    BestOffsetAttentionEvaluator.name: BestOffsetAttentionEvaluator(),
    BestOffsetEvaluator.name: BestOffsetEvaluator(),
    DuplicateTokenEvaluator.name: DuplicateTokenEvaluator(),
    AntiInductionEvaluator.name: AntiInductionEvaluator(),
    NearestCopyEvaluator.name: NearestCopyEvaluator(),
    FarthestCopyEvaluator.name: FarthestCopyEvaluator(),
    TwoTokenPrefixEvaluator.name: TwoTokenPrefixEvaluator(),
    ThreeTokenPrefixEvaluator.name: ThreeTokenPrefixEvaluator(),
    FourTokenPrefixEvaluator.name: FourTokenPrefixEvaluator(),
    TokenInductionEvaluator.name: TokenInductionEvaluator(),
    ConceptInductionEvaluator.name: ConceptInductionEvaluator(),
    FuzzyMatchEvaluator.name: FuzzyMatchEvaluator(),
}
"""Evaluators of kinds of induction, by name; `score_heads` measures those it is asked for, `induction_kinds` all."""
