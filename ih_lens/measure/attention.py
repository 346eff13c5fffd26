"""Attention patterns, layer by layer: each is reduced to what a measure needs before the next one is made."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.measure.forward import measuring
from ih_lens.measure.fused_attention import LayerAttention, Visit, start_fused_pass
from ih_lens.measure.numerics import ScoreWatch, require_finite_pass, widen
from ih_lens.models.capabilities import require_causal
from ih_lens.models.matmul import fastest_float32
from ih_lens.models.wrapped_model import attention_window as attention_window
from ih_lens.types import Hook, ModelLike
from ih_lens.validate import at_least, finite_weights, start_column, token_batch

_BATCH_ELEMENTS = 2**24
"""Entries of one layer's patterns in a batch: 64 MiB in float32."""


def _mean_over_examples(reduced: Float[Tensor, "example layer head_index *rest"]) -> Tensor:
    return reduced.mean(dim=0)


@dataclass(frozen=True)
class AttentionReduction:
    """What a measure makes of the attention of every layer.

    Attributes:
        reduce: from one layer's attention on a batch, and the range of examples that the batch is, to one number (or
            more) per example and head: [batch, head_index, ...].
        finish: from these of all examples, [example, layer, head_index, ...] on the CPU, to the measure; by default
            their mean over examples.
        with_values: whether value vectors are needed beside patterns.
        by_queries: whether `reduce` may be given blocks of queries instead of all of them at once; what it makes of
            a layer's blocks is then added up.
        each: from what `finish` gets to each example's own measure, [example, layer, head_index], whose mean over
            examples is the measure; NaN for examples that are left out. Only with it, or without a `finish`, is the
            spread over examples known.
    """

    reduce: Callable[[LayerAttention, slice], Float[Tensor, "batch head_index *rest"]]
    finish: Callable[[Float[Tensor, "example layer head_index *rest"]], Tensor] = _mean_over_examples
    with_values: bool = False
    by_queries: bool = False
    each: Callable[[Float[Tensor, "example layer head_index *rest"]], Tensor] | None = None

    def examples(self, reduced: Float[Tensor, "example layer head_index *rest"]) -> Tensor | None:
        """Each example's own measure; None where it is not known."""
        if self.each is not None:
            return self.each(reduced)
        return reduced if self.finish is _mean_over_examples and reduced.ndim == 3 else None


class Measured(NamedTuple):
    """What a measure makes of attention.

    Attributes:
        scores: the measure, most often [layer, head].
        examples: each example's own [example, layer, head]; None where the measure is no mean of such.
    """

    scores: Tensor
    examples: Tensor | None


def measurable_tokens(
    model: ModelLike, tokens: Tensor, *, min_length: int = 1, has_bos: bool = False
) -> Int[Tensor, "example pos"]:
    """Token ids on the CPU that this model can be measured on.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if its weights are not finite, the tokens do not fit it, or have no start token that they
            are said to have.
    """
    require_causal(model)
    finite_weights(model)
    return fitting_tokens(model, tokens, min_length=min_length, has_bos=has_bos)


def fitting_tokens(
    model: ModelLike, tokens: Tensor, *, min_length: int = 1, has_bos: bool = False
) -> Int[Tensor, "example pos"]:
    """As `measurable_tokens`, of a model whose weights were looked at already."""
    token_batch(tokens, d_vocab=model.cfg.d_vocab, n_ctx=model.cfg.n_ctx, min_length=min_length)
    if has_bos:
        start_column(tokens)
    return tokens.detach().to("cpu", torch.int64)


def batches(model: ModelLike, tokens: Int[Tensor, "example pos"], batch_size: int | None) -> Iterator[slice]:
    """Ranges of examples; by default as many as keep one layer's patterns in 2^24 entries."""
    n_examples, n_pos = tokens.shape
    default = max(1, _BATCH_ELEMENTS // (model.cfg.n_heads * n_pos**2))
    size = default if batch_size is None else at_least("batch_size", batch_size, 1)
    return (slice(start, min(start + size, n_examples)) for start in range(0, n_examples, size))


def visit_attention(
    model: ModelLike,
    tokens: Int[Tensor, "batch pos"],
    visit: Callable[[LayerAttention], None],
    *,
    layers: Collection[int] | None = None,
    with_values: bool = False,
    by_queries: bool = False,
    watched: Mapping[str, Callable[[Tensor], None]] | None = None,
) -> None:
    """Run the model as far as needed and show `visit` the attention of each layer as it is made.

    A HookedTransformer that the fused layers cover is run by them, unless hooks wait in it; any other model is run
    with hooks.

    Args:
        model: is left as it was, its own hooks included; what they change is seen.
        tokens: one batch.
        visit: gets the layers in order and should keep as little of them as it can.
        layers: only these; all by default.
        with_values: give the value vectors too.
        by_queries: where this is faster, show a layer in several blocks of queries.
        watched: who gets which other activation, by the name of its hook point; see `Visit`.
    """
    asked = range(model.cfg.n_layers) if layers is None else layers
    wanted = Visit(visit, asked, with_values, by_queries, watched or {})
    tokens = tokens.to(model.cfg.device)
    with measuring(model), fastest_float32():
        fused = start_fused_pass(model, tokens)
        if fused is not None:
            fused.run(wanted)
        else:
            watch = ScoreWatch(model, range(model.cfg.n_layers), widens=True)
            model.run_with_hooks(tokens, return_type=None, fwd_hooks=[*watch.hooks, *_hooks(model, wanted)])
            watch.check(tokens)


def forward_used(model: ModelLike) -> str:
    """Which forward pass `visit_attention` runs: "fused", or "hooked" where that cannot be."""
    with measuring(model):
        tokens = torch.zeros(1, 1, dtype=torch.int64, device=model.cfg.device)
        return "hooked" if start_fused_pass(model, tokens) is None else "fused"


def measure_attention(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    reductions: Sequence[AttentionReduction],
    *,
    batch_size: int | None = None,
) -> list[Tensor]:
    """What each of several measures makes of the same tokens, from one run of the model; on the CPU.

    Raises:
        NumericsError: if the run gives NaN or infinity, with layer and head.
    """
    return [measured.scores for measured in measure_examples(model, tokens, reductions, batch_size=batch_size)]


def measure_examples(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    reductions: Sequence[AttentionReduction],
    *,
    batch_size: int | None = None,
) -> list[Measured]:
    """As `measure_attention`, with each example's own measure."""
    parts: list[list[Tensor]] = [[] for _ in reductions]
    for examples in batches(model, tokens, batch_size):
        for part, reduced in zip(parts, _reduce_batch(model, tokens, examples, reductions), strict=True):
            part.append(reduced)
    reduced = [torch.cat(part) for part in parts]
    return [
        Measured(reduction.finish(of_all), reduction.examples(of_all))
        for reduction, of_all in zip(reductions, reduced, strict=True)
    ]


def reduce_attention(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    reduction: Callable[[LayerAttention, slice], Float[Tensor, "batch head_index *rest"]],
    *,
    with_values: bool = False,
    batch_size: int | None = None,
) -> Float[Tensor, "example layer head_index *rest"]:
    """One number (or more) per example and head, reduced from each layer's whole attention at once; on the CPU.

    `reduction` gets one layer's attention and the range of examples that it belongs to.
    """
    kept = AttentionReduction(reduction, finish=lambda reduced: reduced, with_values=with_values)
    return measure_attention(model, tokens, [kept], batch_size=batch_size)[0]


def _reduce_batch(
    model: ModelLike, tokens: Int[Tensor, "example pos"], examples: slice, reductions: Sequence[AttentionReduction]
) -> list[Float[Tensor, "batch layer head_index *rest"]]:
    """All reductions of one batch."""
    sums: list[dict[int, Tensor]] = [{} for _ in reductions]

    def visit(attention: LayerAttention) -> None:
        for so_far, reduction in zip(sums, reductions, strict=True):
            reduced = reduction.reduce(attention, examples)
            layer = attention.layer
            so_far[layer] = so_far[layer] + reduced if layer in so_far else reduced

    with_values = any(reduction.with_values for reduction in reductions)
    by_queries = all(reduction.by_queries for reduction in reductions)
    visit_attention(model, tokens[examples], visit, with_values=with_values, by_queries=by_queries)
    found = [torch.stack([so_far[layer].cpu() for layer in sorted(so_far)], dim=1) for so_far in sums]
    if not all(bool(reduced.isfinite().all()) for reduced in found):  # also where a score is not defined
        with measuring(model):
            require_finite_pass(model, tokens[examples])
    return found


def _hooks(model: ModelLike, wanted: Visit) -> list[Hook]:
    """The hooks that show what is wanted."""

    def shown(see: Callable[[Tensor], None]) -> Callable[..., None]:
        return lambda activation, hook: see(widen(activation))  # noqa: ARG005

    watched = [(name, shown(see)) for name, see in wanted.watched.items()]
    return [*(hook for layer in wanted.layers for hook in _layer_hooks(model, layer, wanted)), *watched]


def _layer_hooks(model: ModelLike, layer: int, wanted: Visit) -> list[Hook]:
    """The hooks that put together one layer's `LayerAttention`; values come before the pattern."""
    values: list[Tensor] = []

    def keep_values(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        n_sharing = model.cfg.n_heads // activation.shape[2]
        values.append(widen(activation).repeat_interleave(n_sharing, dim=2))

    def show(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        wanted.attention(LayerAttention(layer, widen(activation), values.pop() if wanted.with_values else None))

    name = f"blocks.{layer}.attn.hook_"
    return [*([(name + "v", keep_values)] if wanted.with_values else []), (name + "pattern", show)]
