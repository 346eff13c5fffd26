"""Anti-induction: attention to the left neighbours of earlier occurrences instead of the right ones."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from ih_lens.measure.head_evaluators._places import RepeatedPlacesEvaluator, Weights, prefix_targets
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class AntiInductionEvaluator(RepeatedPlacesEvaluator):
    """Attention to what came before earlier occurrences, less that to what came after them.

    1 for a head that looks only at left neighbours, -1 for a perfect induction head, 0 for an indifferent one. (After
    the anti-induction heads of Veitsman et al. 2025; the formula is this library's.)

    Examples:
        >>> score_heads(model, evaluators=["anti_induction"]).top("anti_induction", 3)
    """

    name: ClassVar[str] = "anti_induction"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    definition: ClassVar[str] = (
        "attention summed over the tokens before earlier occurrences of the present token, less attention summed over "
        "the tokens after them; mean over queries that have both, then over examples"
    )

    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:  # noqa: ARG002
        """1 at left neighbours, -1 at right ones, for queries that have both."""
        left, right = prefix_targets(tokens, -2, 1), prefix_targets(tokens, 0, 1)
        has_both = left.any(-1, keepdim=True) & right.any(-1, keepdim=True)
        return (left.float() - right.float()) * has_both
