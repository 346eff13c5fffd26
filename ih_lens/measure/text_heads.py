"""What every head does on one text, shown block by block, so that no more than one layer's is ever in memory."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.attention import visit_attention
from ih_lens.measure.attribution import next_token_reads, unscaled_attribution, watch_final_scale
from ih_lens.measure.fused_attention import FINAL_SCALE, LayerAttention
from ih_lens.models.effective import unembedding_columns
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class HeadRows:
    """Some destinations of all heads of a layer, and the sources up to the last of them.

    Attributes:
        layer: zero-based.
        first_dest: position of the first row.
        pattern: attention.
        attribution: as `logit_attribution`, but before the final norm's scale; one row and source fewer at the end
            of the text. None where it is not defined.
    """

    layer: int
    first_dest: int
    pattern: Float[Tensor, "head_index dest src"]
    attribution: Float[Tensor, "head_index attributed_dest attributed_src"] | None


def visit_text_heads(
    model: ModelLike,
    tokens: Int[Tensor, "1 pos"],
    visit: Callable[[HeadRows], None],
    *,
    layers: Collection[int],
    attributed: bool,
) -> Float[Tensor, "dest"]:
    """Show `visit` the rows of each layer in order, from one run of the model.

    Args:
        model: any HookedTransformer.
        tokens: one text.
        visit: should keep as little as it can.
        layers: which.
        attributed: with attributions.

    Returns:
        What attributions are still to be divided by: the final norm's scale at each destination, 1 without a norm.
    """
    scale: dict[str, Tensor] = {}
    reads = next_token_reads(model, unembedding_columns(model, tokens[:, 1:])) if attributed else None

    def show(attention: LayerAttention) -> None:
        logits = None if reads is None else unscaled_attribution(model, attention, reads)[0].cpu()
        visit(HeadRows(attention.layer, attention.first_query, attention.pattern[0].cpu(), logits))

    watched = watch_final_scale(model, scale) if attributed else {}
    visit_attention(model, tokens, show, layers=layers, with_values=attributed, by_queries=True, watched=watched)
    return scale[FINAL_SCALE][0].cpu() if scale else torch.ones(tokens.shape[1] - 1, device="cpu")
