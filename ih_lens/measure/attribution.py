"""Logit attribution: what every head, embedding and MLP adds to the logit of the token that actually comes next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.errors import CapabilityError
from ih_lens.measure.attention import LayerAttention, batches, measurable_tokens, visit_attention, widen
from ih_lens.models.capabilities import require_direct_path
from ih_lens.models.effective import EffectiveWeights, effective_weights
from ih_lens.types import Hook, ModelLike
from ih_lens.validate import layer_indices

_FINAL_SCALE = "ln_final.hook_scale"


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
    tokens = _attributable(model, tokens)
    chosen = layer_indices(range(model.cfg.n_layers) if layers is None else layers, model.cfg.n_layers)
    weights = effective_weights(model)
    n_examples, n_dest = tokens.shape[0], tokens.shape[1] - 1
    result = torch.empty(n_examples, len(chosen), model.cfg.n_heads, n_dest, n_dest, dtype=weights.W_U.dtype)
    for examples in batches(model, tokens, batch_size):
        batch = tokens[examples]
        columns = _next_token_columns(weights, batch)
        scale: dict[str, Tensor] = {}

        def visit(attention: LayerAttention, examples: slice = examples, columns: Tensor = columns) -> None:
            by_source = _by_source(attention, weights, columns)
            result[examples, chosen.index(attention.layer)] = by_source.cpu()

        hooks = _final_scale_hooks(model, scale) if ln_scale else []
        visit_attention(model, batch, visit, layers=chosen, with_values=True, hooks=hooks)
        if scale:
            result[examples] /= scale[_FINAL_SCALE].cpu()[:, None, None, :, None]
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
    tokens = _attributable(model, tokens)
    weights = effective_weights(model)
    parts = [_batch_terms(model, weights, tokens[examples]) for examples in batches(model, tokens, batch_size)]
    names = ("embedding", "positional", "heads", "mlps", "biases")
    return LogitTerms(**{name: torch.cat([part[name] for part in parts]).cpu() for name in names})


def _attributable(model: ModelLike, tokens: Tensor) -> Int[Tensor, "example pos"]:
    """Tokens of a model whose logits are a sum of terms."""
    tokens = measurable_tokens(model, tokens, min_length=2)
    require_direct_path(model, "logit attribution")
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        raise CapabilityError(
            f"logit attribution reads the logit of the next input token, but this model has {model.cfg.d_vocab} "
            f"input and {model.cfg.d_vocab_out} output tokens; use ablations instead"
        )
    return tokens


def _next_token_columns(
    weights: EffectiveWeights, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch dest d_model"]:
    """The effective unembedding's column of the token after each destination."""
    return weights.W_U.T[tokens[:, 1:].to(weights.W_U.device)]


def _reads(
    attention: LayerAttention, weights: EffectiveWeights, columns: Float[Tensor, "batch dest d_model"]
) -> Float[Tensor, "batch dest head_index d_head"]:
    """What each head's output is multiplied with to give the next token's logit."""
    return torch.einsum("bdm,hkm->bdhk", columns, weights.W_O[attention.layer])


def _unbiased_values(
    attention: LayerAttention, weights: EffectiveWeights
) -> Float[Tensor, "batch src head_index d_head"]:
    """Value vectors less every bias, of all positions that are a source."""
    if attention.values is None:
        raise ValueError("attribution needs values beside patterns")
    return attention.values[:, :-1] - weights.value_bias[attention.layer]


def _by_source(
    attention: LayerAttention, weights: EffectiveWeights, columns: Float[Tensor, "batch dest d_model"]
) -> Float[Tensor, "batch head_index dest src"]:
    """One layer's attribution before the final scale."""
    reads = _reads(attention, weights, columns)
    logits = torch.einsum("bdhk,bshk->bhds", reads, _unbiased_values(attention, weights))
    return attention.pattern[:, :, :-1, :-1] * logits


def _batch_terms(
    model: ModelLike, weights: EffectiveWeights, tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "..."]]:
    """The terms of one batch by the names of `LogitTerms`."""
    columns = _next_token_columns(weights, tokens)
    scale: dict[str, Tensor] = {}
    written: dict[str, Tensor] = {}
    heads: list[Tensor] = []
    biases = [torch.zeros_like(columns[..., 0])]

    def visit(attention: LayerAttention) -> None:
        reads, pattern = _reads(attention, weights, columns), attention.pattern[:, :, :-1, :-1]
        z = torch.einsum("bhds,bshk->bdhk", pattern, _unbiased_values(attention, weights))
        heads.append((z * reads).sum(dim=-1).transpose(1, 2))
        per_head = torch.einsum("bdhk,hk->bhd", reads, weights.value_bias[attention.layer])
        biases.append((per_head * pattern.sum(dim=-1)).sum(dim=1) + columns @ _attention_bias(model, attention.layer))

    names = _written_names(model)
    hooks = [*_final_scale_hooks(model, scale), *((name, _keep_logits(written, name, columns)) for name in names)]
    visit_attention(model, tokens, visit, with_values=True, hooks=hooks)
    divisor = scale.get(_FINAL_SCALE, torch.ones_like(columns[..., 0]))
    mlps = [written[name] / divisor for name in names if name.endswith("hook_mlp_out")]
    return {
        "embedding": written["hook_embed"] / divisor,
        "positional": written.get("hook_pos_embed", torch.zeros_like(divisor)) / divisor,
        "heads": torch.stack(heads, dim=1) / divisor[:, None, None],
        "mlps": torch.stack(mlps, dim=1) if mlps else divisor.new_zeros(len(divisor), 0, divisor.shape[1]),
        "biases": sum(biases) / divisor + _constant_logits(model)[tokens[:, 1:]],
    }


def _written_names(model: ModelLike) -> list[str]:
    """Hooks of everything beside heads that is written into the residual stream."""
    positions = ["hook_pos_embed"] if model.cfg.positional_embedding_type == "standard" else []
    n_mlps = 0 if model.cfg.attn_only else model.cfg.n_layers
    return ["hook_embed", *positions, *(f"blocks.{layer}.hook_mlp_out" for layer in range(n_mlps))]


def _keep_logits(
    kept: dict[str, Tensor], name: str, columns: Float[Tensor, "batch dest d_model"]
) -> Callable[..., None]:
    """A hook that keeps what an activation adds to the next token's logit, before the final scale."""

    def keep(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        kept[name] = (widen(activation)[:, :-1] * columns).sum(dim=-1)

    return keep


def _final_scale_hooks(model: ModelLike, kept: dict[str, Tensor]) -> list[Hook]:
    """A hook that keeps the final LayerNorm's scale at every destination; none where there is no LayerNorm."""

    def keep(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        kept[_FINAL_SCALE] = widen(activation)[:, :-1, 0]

    return [(_FINAL_SCALE, keep)] if model.cfg.normalization_type else []


def _attention_bias(model: Any, layer: int) -> Float[Tensor, "d_model"]:
    """The bias that a layer's attention adds to the residual stream."""
    return _bias(model.blocks[layer].attn.b_O, like=model.unembed.W_U[:, 0])


def _constant_logits(model: Any) -> Float[Tensor, "d_vocab"]:
    """What the biases of the final LayerNorm and of the unembedding add to each token's centred logit."""
    W_U = widen(model.unembed.W_U.detach())
    final_bias = _bias(getattr(getattr(model, "ln_final", None), "b", None), like=W_U[:, 0])
    logits = final_bias @ W_U + _bias(model.unembed.b_U, like=W_U[0])
    return logits - logits.mean()


def _bias(bias: Tensor | None, *, like: Float[Tensor, "width"]) -> Float[Tensor, "width"]:
    """A bias, or zeros where a bridge has none."""
    return widen(torch.zeros_like(like) if bias is None else bias).detach()
