"""Head evaluators: one file each, and one line in this table."""

from ih_lens.measure.head_evaluators._base import HeadEvaluator
from ih_lens.measure.head_evaluators.copying import Copying
from ih_lens.measure.head_evaluators.prefix_matching import PrefixMatching
from ih_lens.measure.head_evaluators.previous_token import PreviousToken

EVALUATORS: dict[str, HeadEvaluator] = {
    PrefixMatching.name: PrefixMatching(),
    Copying.name: Copying(),
    PreviousToken.name: PreviousToken(),
}
"""The paper's evaluators with its parameters, by name, in the order in which results list them."""
