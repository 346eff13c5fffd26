"""Copying: whether a head's output raises the logits of the tokens that it attends to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import random_tokens, start_token
from ih_lens.measure.attention import LayerAttention, measurable_tokens, reduce_attention
from ih_lens.measure.head_evaluators._base import HeadEvaluator, fitting_length
from ih_lens.models.capabilities import require_direct_path
from ih_lens.models.effective import EffectiveWeights, effective_weights
from ih_lens.types import ModelLike
from ih_lens.validate import one_of

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
    one_of("rectified", rectified, RECTIFIED)
    tokens = measurable_tokens(model, tokens, has_bos=has_bos)
    require_direct_path(model, "copying")
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        return torch.full((model.cfg.n_layers, model.cfg.n_heads), torch.nan)
    ratio = _copied_share(effective_weights(model), tokens, int(has_bos), rectified)
    return (4 * reduce_attention(model, tokens, ratio, with_values=True, batch_size=batch_size) - 1).mean(dim=0)


@dataclass(frozen=True)
class Copying(HeadEvaluator):
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

    def fitted(self, model: ModelLike) -> "Copying":
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

    def score(self, model: ModelLike, tokens: Tensor, *, batch_size: int | None = None) -> Float[Tensor, "layer head"]:
        """`copying_score` with this evaluator's start token."""
        has_bos = start_token(model, self.bos) is not None
        return copying_score(model, tokens, has_bos=has_bos, rectified=self.rectified, batch_size=batch_size)


def _copied_share(
    weights: EffectiveWeights, tokens: Int[Tensor, "example pos"], n_start: int, rectified: str
) -> Callable[[LayerAttention, slice], Float[Tensor, "batch head_index"]]:
    """The reduction of one layer's attention to a / (a + T) per example and head; NaN where nothing is raised."""
    largest = weights.W_U.abs().max()

    def share(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index"]:
        to_sources = attention.pattern[..., n_start:]
        sample = tokens[examples, n_start:].to(weights.W_U.device)
        logits, magnitude = _source_logits(attention, weights, sample, n_start, largest)
        if rectified == "destination":
            places = to_sources
            logits, magnitude = to_sources @ logits, to_sources @ magnitude
        else:
            places = to_sources.sum(dim=-2).diag_embed()
        # what rounding leaves of logits that cancel exactly must not pass for raised tokens
        raised = logits.where(logits > 4 * torch.finfo(logits.dtype).eps * magnitude, 0)
        attended = (places * raised).sum(dim=(-2, -1))
        distinct = _first_occurrences(sample).to(raised)
        everything = torch.einsum("bhpj,bhpt,bt->bh", places, raised, distinct)
        return attended / (attended + everything)

    return share


def _source_logits(
    attention: LayerAttention,
    weights: EffectiveWeights,
    sample: Int[Tensor, "batch token"],
    n_start: int,
    largest: Float[Tensor, ""],
) -> tuple[Float[Tensor, "batch head_index source token"], Float[Tensor, "batch head_index source 1"]]:
    """What each source sends to the logits of the sample, and the size of the terms that it is a sum of."""
    pattern, values = attention.pattern, attention.values
    if values is None:
        raise ValueError("copying is measured from patterns and values")
    W_O, bias = weights.W_O[attention.layer].to(pattern), weights.value_bias[attention.layer].to(pattern)
    values = values[:, n_start:]
    reads = torch.einsum("hkd,dbt->bhkt", W_O, weights.W_U[:, sample].to(pattern))
    logits = torch.einsum("bshk,bhkt->bhst", values - bias, reads)
    sizes = torch.einsum("bshk,hk->bhs", values.abs() + bias.abs(), W_O.abs().sum(dim=-1))
    return logits, (sizes * largest.to(pattern))[..., None]


def _first_occurrences(sample: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
    """Each distinct token once."""
    return ~(sample[:, :, None] == sample[:, None, :]).tril(-1).any(dim=-1)
