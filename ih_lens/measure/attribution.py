"""Logit attribution: what every head, embedding and MLP adds to the logit of the token that actually comes next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.errors import CapabilityError
from ih_lens.measure.attention import batches, measurable_tokens, visit_attention
from ih_lens.measure.fused_attention import EMBEDDING, FINAL_SCALE, POSITIONS, LayerAttention, mlp_name
from ih_lens.models.capabilities import differing_vocabularies, require_direct_path
from ih_lens.models.effective import layer_matrix, precise, unembedding_columns, value_bias
from ih_lens.types import ModelLike
from ih_lens.validate import layer_indices


def logit_attribution(
    model: ModelLike,
    tokens: Tensor,
    *,
    ln_scale: bool = True,
    layers: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "example layer head dest src"]:
    """What each head adds, from each source position, to the logit of the token after each destination.

    The entry for destination i and source j is A_ij v_j W_O W_U[:, t_{i+1}] (footnote 21): A the attention pattern,
    v_j the value vector less every bias, W_U the unembedding with the final LayerNorm's gain and centring in it,
    centred over the vocabulary because a constant added to all logits changes nothing.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos], at least two per example.
        ln_scale: divide by the final LayerNorm's actual scale at the destination, so that all terms (`logit_terms`
            has the rest) sum to the centred logit; False leaves it out, as the footnote literally says.
        layers: only these, in this order; all by default. The result is large: n_heads n_pos^2 numbers per layer
            and example.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Logits [example, layer, head, dest, src] on the CPU; dest and src run over the positions 0..n_pos-2, and
        entries with src > dest are 0.

    Raises:
        CapabilityError: if the heads' outputs do not reach the logits linearly, or the output vocabulary is another.
        InputError: if the weights, tokens or layers cannot be used.

    Examples:
        >>> attribution = logit_attribution(model, tokens)
        >>> strongest_source = attribution[0, 1, 4].argmax(dim=-1)  # per destination, head L1H4 on example 0
    """
    tokens = attributable_tokens(model, tokens)
    chosen = layer_indices(range(model.cfg.n_layers) if layers is None else layers, model.cfg.n_layers)
    columns = unembedding_columns(model, tokens[:, 1:])
    n_examples, n_dest = columns.shape[:2]
    shape = (n_examples, len(chosen), model.cfg.n_heads, n_dest, n_dest)
    # NumPy's zeros take no memory until they are written, and much of what lies right of the diagonal never is
    result = torch.from_numpy(np.zeros(shape, np.float64 if columns.dtype == torch.float64 else np.float32))
    for examples in batches(model, tokens, batch_size):
        _attribute_batch(model, tokens[examples], columns[examples], chosen, result[examples], ln_scale=ln_scale)
    return result


@dataclass(frozen=True)
class LogitTerms:
    """All terms of the centred logit of the actual next token at destinations 0..n_pos-2, final scale applied.

    Attributes:
        embedding: direct path of the destination's own token.
        positional: of its position; 0 where positions never enter the residual stream (shortformer, rotary, ALiBi).
        heads: of every head, summed over sources, without biases; see `logit_attribution` for single sources.
        mlps: of every MLP with its biases; no layers in attention-only models.
        biases: of all attention biases, the final LayerNorm's and the unembedding's.
    """

    embedding: Float[Tensor, "example dest"]
    positional: Float[Tensor, "example dest"]
    heads: Float[Tensor, "example layer head dest"]
    mlps: Float[Tensor, "example mlp_layer dest"]
    biases: Float[Tensor, "example dest"]

    @property
    def total(self) -> Float[Tensor, "example dest"]:
        """The sum of all terms: the next token's logit less the mean over the vocabulary."""
        return self.embedding + self.positional + self.heads.sum(dim=(1, 2)) + self.mlps.sum(dim=1) + self.biases


def logit_terms(model: ModelLike, tokens: Tensor, *, batch_size: int | None = None) -> LogitTerms:
    """Split the centred logit of each actual next token into a sum of terms, one for each part of the model.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos], at least two per example.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        The terms; their sum `total` is the logit less the mean over the vocabulary.

    Raises:
        CapabilityError: if the heads' outputs do not reach the logits linearly, or the output vocabulary is another.
        InputError: if the weights or tokens cannot be used.

    Examples:
        >>> terms = logit_terms(model, tokens)
        >>> terms.heads.mean(dim=(0, 3))  # the mean effect of each head
    """
    tokens = attributable_tokens(model, tokens)
    columns = unembedding_columns(model, tokens[:, 1:])
    parts = [
        _batch_terms(model, tokens[examples], columns[examples]) for examples in batches(model, tokens, batch_size)
    ]
    names = ("embedding", "positional", "heads", "mlps", "biases")
    return LogitTerms(**{name: torch.cat([part[name] for part in parts]).cpu() for name in names})


def attributable_tokens(model: ModelLike, tokens: Tensor) -> Int[Tensor, "example pos"]:
    """Tokens of a model whose logits are a sum of terms."""
    tokens = measurable_tokens(model, tokens, min_length=2)
    require_direct_path(model, "logit attribution")
    obstacle = differing_vocabularies(model, "logit attribution")
    if obstacle is not None:
        raise CapabilityError(obstacle)
    return tokens


def attribution_obstacle(model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:
    """Why this model's logits cannot be attributed to its heads; None where they can.

    Raises:
        CapabilityError: if it does not predict each token from those before it.
        InputError: if the weights or tokens cannot be used.
    """
    measurable_tokens(model, tokens, min_length=2)
    try:
        attributable_tokens(model, tokens)
    except CapabilityError as obstacle:
        return str(obstacle)
    return None


def _attribute_batch(
    model: ModelLike,
    tokens: Int[Tensor, "batch pos"],
    columns: Float[Tensor, "batch dest d_model"],
    layers: Sequence[int],
    result: Float[Tensor, "batch layer head dest src"],
    *,
    ln_scale: bool,
) -> None:
    """Fill in the attribution of one batch; sources behind a block's destinations are zero already."""
    reads = next_token_reads(model, columns)
    filled: set[tuple[int, int, int]] = set()

    def visit(attention: LayerAttention) -> None:
        start, logits = attention.first_query, unscaled_attribution(model, attention, reads)
        stop, n_src = start + logits.shape[2], logits.shape[3]
        result[:, layers.index(attention.layer), :, start:stop, :n_src] = logits.cpu()
        filled.add((start, stop, n_src))

    scale: dict[str, Tensor] = {}
    watched = watch_final_scale(model, scale) if ln_scale else {}
    visit_attention(model, tokens, visit, layers=layers, with_values=True, by_queries=True, watched=watched)
    for start, stop, n_src in filled if scale else ():
        result[..., start:stop, :n_src] /= scale[FINAL_SCALE].cpu()[:, None, None, start:stop, None]


def unscaled_attribution(
    model: ModelLike,
    attention: LayerAttention,
    reads: Callable[[int], Float[Tensor, "batch head_index dest d_head"]],
) -> Float[Tensor, "batch head_index block_dest block_src"]:
    """`logit_attribution` of a block of queries and the keys before them, the final scale not applied.

    Args:
        model: the model.
        attention: with values.
        reads: of `next_token_reads`, for all destinations.
    """
    read, start = reads(attention.layer), attention.first_query
    n_dest, (n_queries, n_keys) = read.shape[2], attention.pattern.shape[2:]
    stop, n_src = min(start + n_queries, n_dest), min(n_keys, n_dest)
    logits = read[:, :, start:stop] @ _unbiased_values(model, attention, n_src).mT
    logits *= attention.pattern[:, :, : stop - start, :n_src]
    return logits


def next_token_reads(
    model: ModelLike, columns: Float[Tensor, "batch dest d_model"]
) -> Callable[[int], Float[Tensor, "batch head_index dest d_head"]]:
    """From a layer to what each head's output is multiplied with to give the next token's logit."""

    @lru_cache(maxsize=1)  # a layer's blocks of queries come one after the other
    def of_layer(layer: int) -> Float[Tensor, "batch head_index dest d_head"]:
        W_O = layer_matrix(model, "W_O", layer).to(columns)
        return (columns @ W_O.flatten(0, 1).mT).unflatten(-1, W_O.shape[:2]).transpose(1, 2)

    return of_layer


def _unbiased_values(
    model: ModelLike, attention: LayerAttention, n_src: int
) -> Float[Tensor, "batch head_index src d_head"]:
    """The first positions' value vectors less every bias."""
    if attention.values is None:
        raise ValueError("attribution needs values beside patterns")
    return (attention.values[:, :n_src] - value_bias(model, attention.layer)).transpose(1, 2)


def _batch_terms(
    model: ModelLike, tokens: Int[Tensor, "batch pos"], columns: Float[Tensor, "batch dest d_model"]
) -> dict[str, Float[Tensor, "..."]]:
    """The terms of one batch by the names of `LogitTerms`."""
    reads, (n_examples, n_dest) = next_token_reads(model, columns), columns.shape[:2]
    written: dict[str, Tensor] = {}
    heads = columns.new_zeros(n_examples, model.cfg.n_layers, model.cfg.n_heads, n_dest)
    biases = torch.zeros_like(columns[..., 0])

    def visit(attention: LayerAttention) -> None:
        start, layer, (n_queries, n_keys) = attention.first_query, attention.layer, attention.pattern.shape[2:]
        stop, n_src = min(start + n_queries, n_dest), min(n_keys, n_dest)
        pattern, read = attention.pattern[:, :, : stop - start, :n_src], reads(layer)[:, :, start:stop]
        z = pattern @ _unbiased_values(model, attention, n_src)
        heads[:, layer, :, start:stop] = (z * read).sum(dim=-1)
        per_head = (read @ value_bias(model, layer)[:, :, None])[..., 0] * pattern.sum(dim=-1)
        biases[:, start:stop] += per_head.sum(dim=1) + columns[:, start:stop] @ _attention_bias(model, layer)

    names = _written_names(model)
    watched = {**watch_final_scale(model, written), **{name: _keep_logits(written, name, columns) for name in names}}
    visit_attention(model, tokens, visit, with_values=True, by_queries=True, watched=watched)
    divisor = written.get(FINAL_SCALE, torch.ones_like(biases))
    mlps = [written[name] / divisor for name in names if name.endswith("hook_mlp_out")]
    return {
        "embedding": written[EMBEDDING] / divisor,
        "positional": written.get(POSITIONS, torch.zeros_like(divisor)) / divisor,
        "heads": heads / divisor[:, None, None],
        "mlps": torch.stack(mlps, dim=1) if mlps else divisor.new_zeros(n_examples, 0, n_dest),
        "biases": biases / divisor + _constant_logits(model, tokens[:, 1:]),
    }


def _written_names(model: ModelLike) -> list[str]:
    """Hooks of everything beside heads that is written into the residual stream."""
    positions = [POSITIONS] if model.cfg.positional_embedding_type == "standard" else []
    return [EMBEDDING, *positions, *(mlp_name(layer) for layer in range(model.cfg.n_layers) if not model.cfg.attn_only)]


def _keep_logits(
    kept: dict[str, Tensor], name: str, columns: Float[Tensor, "batch dest d_model"]
) -> Callable[[Tensor], None]:
    """Keeps what an activation adds to the next token's logit, before the final scale."""

    def keep(activation: Tensor) -> None:
        kept[name] = torch.einsum("bdm,bdm->bd", activation[:, :-1], columns)

    return keep


def watch_final_scale(model: ModelLike, kept: dict[str, Tensor]) -> dict[str, Callable[[Tensor], None]]:
    """Keeps the final norm's scale at every destination; nothing where there is no norm."""

    def keep(activation: Tensor) -> None:
        kept[FINAL_SCALE] = activation[:, :-1, 0]

    return {FINAL_SCALE: keep} if model.cfg.normalization_type else {}


def _attention_bias(model: Any, layer: int) -> Float[Tensor, "d_model"]:
    """The bias that a layer's attention adds to the residual stream."""
    return _bias(model.blocks[layer].attn.b_O, like=model.unembed.W_U[:, 0])


def _constant_logits(model: Any, tokens: Int[Tensor, "batch dest"]) -> Float[Tensor, "batch dest"]:
    """What the biases of the final LayerNorm and of the unembedding add to each token's centred logit."""
    W_U = model.unembed.W_U.detach()
    final_bias = _bias(getattr(getattr(model, "ln_final", None), "b", None), like=W_U[:, 0])
    logits = final_bias @ precise(W_U) + _bias(model.unembed.b_U, like=W_U[0])
    return logits[tokens.to(logits.device)] - logits.mean()


def _bias(bias: Tensor | None, *, like: Float[Tensor, "width"]) -> Float[Tensor, "width"]:
    """A bias, or zeros where a bridge has none."""
    return precise(torch.zeros_like(like) if bias is None else bias)
