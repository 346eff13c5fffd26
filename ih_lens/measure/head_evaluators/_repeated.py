"""Evaluators on random tokens that are repeated after a start token."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from jaxtyping import Int
from torch import Tensor

from ih_lens.data.random_tokens import repeated_random_tokens
from ih_lens.measure.head_evaluators._base import AttentionEvaluator, fitting_length
from ih_lens.types import ModelLike

Repeated = TypeVar("Repeated", bound="RepeatedTokensEvaluator")


@dataclass(frozen=True)
class RepeatedTokensEvaluator(AttentionEvaluator):
    """What evaluators on these tokens share: how many of them, how often, and which start token."""

    settings: ClassVar[tuple[str, ...]] = ("length", "repeats", "n_examples", "bos")

    length: int = 25
    repeats: int = 4
    n_examples: int = 10
    bos: int | str | None = "auto"

    def fitted(self: Repeated, model: ModelLike) -> Repeated:
        """With a period that fits the model's context as often as it is repeated."""
        return self.configured(length=fitting_length(model, self.length, self.repeats, self.bos))

    def tokens(
        self,
        model: ModelLike,
        *,
        seed: int = 0,
        text: Int[Tensor, "text_example text_pos"] | None = None,  # noqa: ARG002
    ) -> Int[Tensor, "example pos"]:
        """Repeated random tokens."""
        return repeated_random_tokens(
            model, length=self.length, repeats=self.repeats, n_examples=self.n_examples, seed=seed, bos=self.bos
        )
