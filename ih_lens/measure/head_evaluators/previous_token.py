"""Previous-token attention: how much a head attends to the token right before the present one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.attention import AttentionReduction, attention_window, measurable_tokens, measure_attention
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators._base import layers_named
from ih_lens.measure.head_evaluators._repeated import RepeatedTokensEvaluator
from ih_lens.types import ModelLike
from ih_lens.validate import token_batch


def previous_token_score(
    model: ModelLike, tokens: Tensor, *, batch_size: int | None = None
) -> Float[Tensor, "layer head"]:
    """Mean attention from each position i >= 1 to position i - 1 (paper, Data Collection (3)).

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos]; the paper takes examples of the training distribution.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Scores in [0, 1], means over positions and examples. NaN for heads that see only their own position.

    Raises:
        InputError: if the examples have fewer than two tokens, or the weights or tokens cannot be used.

    Examples:
        >>> previous_token_score(model, text_tokens).shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    tokens = measurable_tokens(model, tokens)
    return measure_attention(model, tokens, [_reduction(model, tokens)], batch_size=batch_size)[0]


@dataclass(frozen=True)
class PreviousTokenEvaluator(RepeatedTokensEvaluator):
    """Previous-token attention on text, or on repeated random tokens where there is no text."""

    name: ClassVar[str] = "previous_token"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    definition: ClassVar[str] = "attention from each position to the one before it; mean over positions and examples"
    uses_text: ClassVar[bool] = True
    follows_tokens: ClassVar[bool] = False

    def tokens(
        self, model: ModelLike, *, seed: int = 0, text: Int[Tensor, "text_example text_pos"] | None = None
    ) -> Int[Tensor, "example pos"]:
        """The text; without one, the repeated random tokens that prefix matching is measured on."""
        return super().tokens(model, seed=seed) if text is None else text

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:  # noqa: ARG002
        """Heads that see their own position only have no score."""
        layers = [layer for layer in range(model.cfg.n_layers) if attention_window(model, layer) == 1]
        return f"{layers_named(layers)}: local attention sees its own position only" if layers else None

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """That of `previous_token_score`."""
        return _reduction(model, tokens)


def _reduction(model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
    n_queries = token_batch(tokens, min_length=2).shape[1] - 1
    sees_itself_only = [attention_window(model, layer) == 1 for layer in range(model.cfg.n_layers)]

    def to_previous(attention: LayerAttention, _: slice) -> Float[Tensor, "batch head_index"]:
        return attention.pattern.diagonal(attention.first_query - 1, dim1=-2, dim2=-1).sum(dim=-1) / n_queries

    def each(reduced: Float[Tensor, "example layer head_index"]) -> Float[Tensor, "example layer head_index"]:
        return reduced.masked_fill(torch.tensor(sees_itself_only, device="cpu")[:, None], torch.nan)

    return AttentionReduction(to_previous, lambda reduced: each(reduced).mean(dim=0), by_queries=True, each=each)
