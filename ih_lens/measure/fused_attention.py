"""The attention of a model whose hooks no one uses, layer by layer, from its fused forward pass."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.causal_attention import pattern_blocks
from ih_lens.models.fused_forward import (
    fused_block,
    may_fuse,
    normalize,
    queries_and_keys,
    queries_keys_values,
    score_terms,
)
from ih_lens.models.hooked_transformer import HookedTransformer, LayerNorm, LayerNormPre
from ih_lens.types import ModelLike

EMBEDDING, POSITIONS, FINAL_SCALE = "hook_embed", "hook_pos_embed", "ln_final.hook_scale"


def mlp_name(layer: int) -> str:
    """The hook point of what a layer's MLP writes."""
    return f"blocks.{layer}.hook_mlp_out"


@dataclass(frozen=True)
class LayerAttention:
    """One layer's attention on one batch, at least in float32.

    Attributes:
        layer: zero-based.
        pattern: what each query attends to: of all queries, unless blocks of queries were asked for; then of those
            from `first_query` on, to the keys that come before the last of them.
        values: value vectors of all positions with their biases, one per head also under grouped queries; None
            unless asked for.
        first_query: the position of the first query.
    """

    layer: int
    pattern: Float[Tensor, "batch head_index query_pos key_pos"]
    values: Float[Tensor, "batch pos head_index d_head"] | None = None
    first_query: int = 0


@dataclass(frozen=True)
class Visit:
    """What someone wants to see of a forward pass.

    Attributes:
        attention: gets the attention of each layer, in order.
        layers: only of these.
        with_values: with value vectors.
        by_queries: blocks of queries are enough, so that no [pos, pos] matrix need be formed.
        watched: who gets which other activation, by the name of its hook point: embeddings, positional embeddings,
            the MLPs' outputs, or the final norm's scale.
    """

    attention: Callable[[LayerAttention], None]
    layers: Collection[int]
    with_values: bool
    by_queries: bool
    watched: Mapping[str, Callable[[Tensor], None]]


@dataclass(frozen=True, repr=False, eq=False)
class FusedPass:
    """A forward pass about to start, of a model that the fused layers cover and that no hook waits in."""

    model: HookedTransformer
    tokens: Int[Tensor, "batch pos"]
    residual: Float[Tensor, "batch pos d_model"]
    positions: Float[Tensor, "... pos d_model"] | None

    def run(self, visit: Visit) -> None:
        """Show what is wanted, and compute no more than that needs."""
        self._show_embeddings(visit)
        residual, goes_on = self.residual, any(name not in (EMBEDDING, POSITIONS) for name in visit.watched)
        last = self.model.cfg.n_layers - 1 if goes_on else max(visit.layers)
        for layer in range(last + 1):
            if layer == last and not goes_on:
                self._show_last(layer, residual, visit)
                return
            attend = self._attending(layer, visit) if layer in visit.layers else None
            show_mlp = visit.watched.get(mlp_name(layer))
            residual = fused_block(self.model.blocks[layer], residual, self.positions, attend=attend, show_mlp=show_mlp)
        if FINAL_SCALE in visit.watched:
            visit.watched[FINAL_SCALE](_scale(self.model.ln_final, residual))

    def _show_embeddings(self, visit: Visit) -> None:
        if EMBEDDING in visit.watched:
            visit.watched[EMBEDDING](torch.nn.functional.embedding(self.tokens, self.model.embed.W_E))
        if POSITIONS in visit.watched:
            visit.watched[POSITIONS](self.model.pos_embed.W_pos[: self.tokens.shape[1]].expand_as(self.residual))

    def _show_last(self, layer: int, residual: Float[Tensor, "batch pos d_model"], visit: Visit) -> None:
        """The last layer that anyone looks at: its pattern, and its values if they are wanted."""
        block = self.model.blocks[layer]
        normalized = normalize(block.ln1, residual)
        if visit.with_values:
            q, k, v = queries_keys_values(block.attn, normalized, self.positions)
        else:
            (q, k), v = queries_and_keys(block.attn, normalized, self.positions), None
        for start, pattern in _patterns(block.attn, q, k, visit.by_queries):
            visit.attention(LayerAttention(layer, pattern, v, start))

    @staticmethod
    def _attending(layer: int, visit: Visit) -> Callable[..., Tensor]:
        """Attention that is shown while values are moved along it."""

        def attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            z, values = torch.empty_like(v, memory_format=torch.contiguous_format), v.transpose(1, 2).contiguous()
            for start, pattern in _patterns(attention, q, k, visit.by_queries):
                visit.attention(LayerAttention(layer, pattern, v if visit.with_values else None, start))
                n_queries, n_keys = pattern.shape[2:]
                z[:, start : start + n_queries] = (pattern @ values[:, :, :n_keys]).transpose(1, 2)
            return z

        return attend


def start_fused_pass(model: ModelLike, tokens: Int[Tensor, "batch pos"]) -> FusedPass | None:
    """A fused pass over tokens on the model's device, or None where only the model itself gives the right numbers."""
    if not isinstance(model, HookedTransformer) or not may_fuse(model):
        return None
    residual, _, positions, attention_mask = model.input_to_embed(tokens)
    return None if attention_mask is not None else FusedPass(model, tokens, residual, positions)


def _patterns(
    attention: Any, q: Tensor, k: Tensor, by_queries: bool
) -> Iterable[tuple[int, Float[Tensor, "batch head_index query_pos key_pos"]]]:
    """The first query of each block of queries and its pattern; one block of all unless blocks are enough."""
    blocks = pattern_blocks(q.transpose(1, 2), k.transpose(1, 2), **score_terms(attention))
    if by_queries:
        return ((start, pattern) for start, _, pattern in blocks)
    n_pos, whole = q.shape[1], None
    for start, stop, pattern in blocks:
        if stop - start == n_pos:
            return [(0, pattern)]
        whole = pattern.new_zeros(*pattern.shape[:2], n_pos, n_pos) if whole is None else whole
        whole[:, :, start:stop, :stop] = pattern
    return [] if whole is None else [(0, whole)]


def _scale(norm: Any, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos 1"]:
    """What a norm divides by."""
    if isinstance(norm, LayerNorm | LayerNormPre):
        x = x - x.mean(dim=-1, keepdim=True)
    return (x.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
