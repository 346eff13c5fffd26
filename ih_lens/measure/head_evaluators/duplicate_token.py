"""Duplicate tokens: attention to earlier occurrences of the present token."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.head_evaluators._places import RepeatedPlacesEvaluator, Weights, prefix_targets
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class DuplicateTokenEvaluator(RepeatedPlacesEvaluator):
    """Attention to earlier occurrences of the present token, on repeated random tokens; 1 for a perfect head.

    Examples:
        >>> score_heads(model, evaluators=["duplicate_token"]).top("duplicate_token", 3)
    """

    name: ClassVar[str] = "duplicate_token"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    definition: ClassVar[str] = (
        "attention summed over earlier occurrences of the present token, itself not among them; mean over queries "
        "that have such, then over examples"
    )

    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:  # noqa: ARG002
        """1 at each earlier occurrence."""
        found: Float[Tensor, "example query_pos key_pos"] = prefix_targets(tokens, -1, 1).float()
        return found
