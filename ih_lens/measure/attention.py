"""Attention patterns, layer by layer: each is reduced to what a measure needs before the next one is made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.measure.forward import measuring
from ih_lens.models.capabilities import require_causal
from ih_lens.types import Hook, ModelLike
from ih_lens.validate import at_least, finite_weights, start_column, token_batch

_BATCH_ELEMENTS = 2**24
"""Entries of one layer's patterns in a batch: 64 MiB in float32."""


@dataclass(frozen=True)
class LayerAttention:
    """One layer's attention on one batch, at least in float32.

    Attributes:
        layer: zero-based.
        pattern: what each query attends to.
        values: value vectors with their biases, one per head also under grouped queries; None unless asked for.
    """

    layer: int
    pattern: Float[Tensor, "batch head_index query_pos key_pos"]
    values: Float[Tensor, "batch pos head_index d_head"] | None = None


def widen(activation: Tensor) -> Tensor:
    """Half precision as float32, so that sums and means are taken there; wider types as they are."""
    return activation.float() if activation.dtype in (torch.float16, torch.bfloat16) else activation


def measurable_tokens(
    model: ModelLike, tokens: Tensor, *, min_length: int = 1, has_bos: bool = False
) -> Int[Tensor, "example pos"]:
    """Token ids on the CPU that this model can be measured on.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if its weights are not finite, the tokens do not fit it, or have no start token that they
            are said to have.
    """
    finite_weights(model)
    require_causal(model)
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
    layers: Sequence[int] | None = None,
    with_values: bool = False,
    hooks: Sequence[Hook] = (),
) -> None:
    """Run the model up to its final LayerNorm and show `visit` the attention of each layer as it is made.

    Args:
        model: is left as it was, its own hooks included; what they change is seen.
        tokens: one batch.
        visit: gets the layers in order and should keep as little of them as it can.
        layers: only these; all by default.
        with_values: give the value vectors too.
        hooks: more hooks, as `run_with_hooks` takes them.
    """
    attention_hooks = [
        hook
        for layer in (range(model.cfg.n_layers) if layers is None else layers)
        for hook in _layer_hooks(model, layer, visit, with_values)
    ]
    with measuring(model):
        model.run_with_hooks(tokens.to(model.cfg.device), return_type=None, fwd_hooks=[*attention_hooks, *hooks])


def reduce_attention(
    model: ModelLike,
    tokens: Int[Tensor, "example pos"],
    reduction: Callable[[LayerAttention, slice], Float[Tensor, "batch head_index *rest"]],
    *,
    with_values: bool = False,
    batch_size: int | None = None,
) -> Float[Tensor, "example layer head_index *rest"]:
    """One number (or more) per example and head, reduced from each layer's attention at once; on the CPU.

    `reduction` gets one layer's attention and the range of examples that it belongs to.
    """
    reduced: list[Tensor] = []
    for examples in batches(model, tokens, batch_size):
        per_layer: list[Tensor] = []

        def visit(attention: LayerAttention, examples: slice = examples, kept: list[Tensor] = per_layer) -> None:
            kept.append(reduction(attention, examples).cpu())

        visit_attention(model, tokens[examples], visit, with_values=with_values)
        reduced.append(torch.stack(per_layer, dim=1))
    return torch.cat(reduced)


def attention_window(model: ModelLike, layer: int) -> int | None:
    """How many positions a local layer's queries see, themselves included; None where they see all earlier ones."""
    cfg = model.cfg
    if not cfg.use_local_attn or cfg.attn_types is None or cfg.attn_types[layer] != "local":
        return None
    return int(cfg.window_size)


def _layer_hooks(
    model: ModelLike, layer: int, visit: Callable[[LayerAttention], None], with_values: bool
) -> list[Hook]:
    """The hooks that put together one layer's `LayerAttention`; values come before the pattern."""
    values: list[Tensor] = []

    def keep_values(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        n_sharing = model.cfg.n_heads // activation.shape[2]
        values.append(widen(activation).repeat_interleave(n_sharing, dim=2))

    def show(activation: Tensor, hook: HookPoint) -> None:  # noqa: ARG001
        visit(LayerAttention(layer, widen(activation), values.pop() if with_values else None))

    name = f"blocks.{layer}.attn.hook_"
    return [*([(name + "v", keep_values)] if with_values else []), (name + "pattern", show)]
