"""Token against concept induction: from the first token of a known entity, to its second token or to its last."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.induction_tokens import entity_lists
from ih_lens.data.random_tokens import n_random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.errors import InputError
from ih_lens.measure.attention import AttentionReduction
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators._base import AttentionEvaluator, require_room
from ih_lens.models.effective import value_bias
from ih_lens.types import ModelLike

Entities = TypeVar("Entities", bound="TokenInductionEvaluator")


@dataclass(frozen=True)
class TokenInductionEvaluator(AttentionEvaluator):
    """From the first token of an entity that was listed before, how much of a head's reading is on its second token.

    Attention is weighted with the length of the value vector at each position, biases left out, so that looking at a
    position from which nothing is moved does not count (Feucht et al. 2025, who call it next-token matching). On
    `entity_lists`.

    Examples:
        >>> scores = score_heads(model, evaluators=["token_induction", "concept_induction"])
        >>> scores.top("concept_induction", 3)
    """

    name: ClassVar[str] = "token_induction"
    place: ClassVar[int] = 1
    """Which token of the entity is looked for; -1 the last."""
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    definition: ClassVar[str] = (
        "A_ij |v_j| over its sum over j, i the first token of a random entity in its second list and j the second "
        "token of the entity in the first list; v without biases; mean over entities, then over examples; NaN for "
        "heads without values"
    )
    settings: ClassVar[tuple[str, ...]] = ("n_examples", "bos")

    n_examples: int = 10
    bos: int | str | None = "auto"
    n_entities: int = 10
    entity_length: int = 3

    def fitted(self: Entities, model: ModelLike) -> Entities:
        """With no more entities than context and vocabulary have room for."""
        n_places = model.cfg.n_ctx - (start_token(model, self.bos) is not None)
        room = min(
            n_places // (2 * (self.entity_length + 1)), (n_random_tokens(model, self.bos) - 1) // self.entity_length
        )
        return type(self)(self.n_examples, self.bos, max(2, min(self.n_entities, room)), self.entity_length)

    def tokens(
        self,
        model: ModelLike,
        *,
        seed: int = 0,
        text: Int[Tensor, "text_example text_pos"] | None = None,  # noqa: ARG002
    ) -> Int[Tensor, "example pos"]:
        """Two lists of the same random entities."""
        n = self.entity_length
        require_room(model, self.name, n_places=4 * (n + 1), n_tokens=2 * n + 1, bos=self.bos)
        return entity_lists(
            model,
            n_entities=self.n_entities,
            entity_length=self.entity_length,
            n_examples=self.n_examples,
            seed=seed,
            bos=self.bos,
        )

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """The value-weighted share at one place of each entity."""
        n_start = int(start_token(model, self.bos) is not None)
        step = self.entity_length + 1
        expected = n_start + 2 * self.n_entities * step
        if tokens.shape[1] != expected:
            raise InputError(f"tokens: expected two lists of {expected} tokens in all, as entity_lists gives them")
        starts = n_start + step * torch.arange(2 * self.n_entities, device="cpu")
        first, second = starts[: self.n_entities], starts[self.n_entities :]
        # where in the first list each entity of the second one stands
        same = tokens[:, second][:, :, None] == tokens[:, first][:, None, :]
        target = first[same.int().argmax(dim=-1)] + self.place % self.entity_length

        def share(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index"]:
            if attention.values is None:
                raise ValueError("entities are measured from patterns and values")
            values = attention.values - value_bias(model, attention.layer).to(attention.values)
            sizes = values.norm(dim=-1).transpose(1, 2)[:, :, None]
            read = attention.pattern[:, :, second.to(sizes.device)] * sizes
            at = target[examples].to(sizes.device)[:, None, :, None].expand(-1, read.shape[1], -1, -1)
            return (read.gather(-1, at)[..., 0] / read.sum(dim=-1)).mean(dim=-1)

        return AttentionReduction(share, with_values=True)


@dataclass(frozen=True)
class ConceptInductionEvaluator(TokenInductionEvaluator):
    """The same with the last token of the entity, from which heads move what a word means as a whole."""

    name: ClassVar[str] = "concept_induction"
    place: ClassVar[int] = -1
    definition: ClassVar[str] = TokenInductionEvaluator.definition.replace("j the second token", "j the last token")
