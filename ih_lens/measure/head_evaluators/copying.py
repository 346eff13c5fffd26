"""Copying: whether a head's output raises the logits of the tokens that it attends to."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.measure.attention import AttentionReduction, measurable_tokens, measure_attention
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators._base import AttentionEvaluator, fitting_length
from ih_lens.models.capabilities import differing_vocabularies, require_direct_path
from ih_lens.models.effective import layer_matrix, unembedding_columns, value_bias
from ih_lens.types import ModelLike
from ih_lens.validate import one_of, start_column

RECTIFIED = ("source", "destination")


def copying_score(
    model: ModelLike,
    tokens: Tensor,
    *,
    has_bos: bool = False,
    rectified: str = "source",
    batch_size: int | None = None,
) -> Float[Tensor, "layer head"]:
    """How much of what a head raises in the logits falls on the tokens that it attends to.

    Each source position j sends x_j = v_j W_O W_U along the direct path: v_j is the head's actual value vector,
    LayerNorm's scale at the source included, less every bias; W_U has the final LayerNorm's gain and centring in it
    and is centred over the vocabulary; negative entries count as zero. With attention A, a is the sum of
    A_ij x_j[t_j] over destinations i and sources j, and T the same sum over all tokens of the sample, each distinct
    token once. The score is 4 a / (a + T) - 1, per example, then averaged.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos], such as those of `random_tokens`. The paper leaves out the start token
            (footnote 31: by mistake).
        has_bos: the first column is a start token: no source, and not in the sample.
        rectified: "source" as above, because the token that is attended to belongs to a source; "destination"
            sets negative entries of the sum over sources to zero instead, at each destination.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Scores in [-1, 1]: 1 if only attended tokens are raised, -1 if only others. NaN for heads that raise no
        token of the sample in some example, and for all heads where input and output vocabularies differ.

    Raises:
        CapabilityError: if the heads' outputs do not reach the logits linearly.
        InputError: if the weights or tokens cannot be used.

    Examples:
        >>> copying_score(model, random_tokens(model)).shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    tokens = measurable_tokens(model, tokens, has_bos=has_bos)
    reduction = _reduction(model, tokens, n_start=int(has_bos), rectified=rectified)
    return measure_attention(model, tokens, [reduction], batch_size=batch_size)[0]


@dataclass(frozen=True)
class CopyingEvaluator(AttentionEvaluator):
    """Copying on random tokens without repeats."""

    name: ClassVar[str] = "copying"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    definition: ClassVar[str] = (
        "4 a / (a + T) - 1 with a what the head raises in the logits of the tokens it attends to, T in those of all "
        "tokens of the sample; each source position rectified by itself"
    )
    settings: ClassVar[tuple[str, ...]] = ("length", "n_examples")

    length: int = 25
    n_examples: int = 10
    bos: int | str | None = None
    rectified: str = "source"

    def defined(self) -> str:
        """The definition with what is rectified."""
        if one_of("rectified", self.rectified, RECTIFIED) == "source":
            return self.definition
        return self.definition.replace("each source position rectified by itself", "the sum over sources rectified")

    def fitted(self, model: ModelLike) -> "CopyingEvaluator":
        """With no more tokens than fit the model's context."""
        return self.configured(length=fitting_length(model, self.length, 1, self.bos))

    def tokens(
        self,
        model: ModelLike,
        *,
        seed: int = 0,
        text: Int[Tensor, "text_example text_pos"] | None = None,  # noqa: ARG002
    ) -> Int[Tensor, "example pos"]:
        """Random tokens, each once."""
        return random_tokens(model, length=self.length, n_examples=self.n_examples, seed=seed, bos=self.bos)

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:  # noqa: ARG002
        """Tokens must be the same at both ends of the model."""
        return differing_vocabularies(model, "copying")

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """That of `copying_score` with this evaluator's start token."""
        n_start = int(start_token(model, self.bos) is not None)
        if n_start:
            start_column(tokens)
        return _reduction(model, tokens, n_start=n_start, rectified=self.rectified)


def _reduction(
    model: ModelLike, tokens: Int[Tensor, "example pos"], *, n_start: int, rectified: str
) -> AttentionReduction:
    """Attention to a / (a + T) per example and head, and from there to the score."""
    one_of("rectified", rectified, RECTIFIED)
    require_direct_path(model, "copying")
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        undefined = partial(torch.full_like, fill_value=torch.nan)
        return AttentionReduction(
            lambda attention, _: attention.pattern[:, :, 0, 0], lambda reduced: undefined(reduced[0]), each=undefined
        )
    sample = tokens[:, n_start:]
    columns = unembedding_columns(model, sample)
    largest = columns.abs().amax()
    distinct = _first_occurrences(sample).to(columns)

    def share(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index"]:
        to_sources = attention.pattern[..., n_start:]
        reads, once = columns[examples].to(to_sources), distinct[examples].to(to_sources)
        logits, magnitude = _source_logits(model, attention, reads, n_start)
        magnitude = magnitude * largest.to(to_sources)
        if rectified == "destination":
            raised = _above_rounding(to_sources @ logits, to_sources @ magnitude)
            attended, weight = (to_sources * raised).sum(dim=(-2, -1)), to_sources.sum(dim=-1)
        else:
            raised, weight = _above_rounding(logits, magnitude), to_sources.sum(dim=-2)
            attended = (weight * raised.diagonal(dim1=-2, dim2=-1)).sum(dim=-1)
        everything = torch.einsum("bhp,bhpt,bt->bh", weight, raised, once)
        return attended / (attended + everything)

    def each(shares: Float[Tensor, "example layer head_index"]) -> Float[Tensor, "example layer head_index"]:
        return 4 * shares - 1

    return AttentionReduction(share, lambda shares: each(shares).mean(dim=0), with_values=True, each=each)


def _above_rounding(
    logits: Float[Tensor, "batch head_index place token"], magnitude: Float[Tensor, "batch head_index place 1"]
) -> Float[Tensor, "batch head_index place token"]:
    """Positive logits; what rounding leaves of those that cancel exactly must not pass for raised tokens."""
    return logits.where(logits > 4 * torch.finfo(logits.dtype).eps * magnitude, 0)


def _source_logits(
    model: ModelLike, attention: LayerAttention, columns: Float[Tensor, "batch token d_model"], n_start: int
) -> tuple[Float[Tensor, "batch head_index source token"], Float[Tensor, "batch head_index source 1"]]:
    """What each source sends to the logits of the sample, and the terms that it sums, less the columns' size."""
    if attention.values is None:
        raise ValueError("copying is measured from patterns and values")
    values, W_O = attention.values[:, n_start:].transpose(1, 2), layer_matrix(model, "W_O", attention.layer)
    bias = value_bias(model, attention.layer)[:, None]
    reads = (columns @ W_O.flatten(0, 1).mT).unflatten(-1, W_O.shape[:2])
    logits = (values - bias) @ reads.permute(0, 2, 3, 1)
    sizes = (values.abs() + bias.abs()) @ W_O.abs().sum(dim=-1)[..., None]
    return logits, sizes


def _first_occurrences(sample: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
    """Each distinct token once."""
    return ~(sample[:, :, None] == sample[:, None, :]).tril(-1).any(dim=-1)
