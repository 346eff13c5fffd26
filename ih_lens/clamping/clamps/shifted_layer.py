"""A layer that matches as if a perfect previous-token layer came before it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ih_lens.clamping._base import Clamp, Place, Target
from ih_lens.clamping.state import ClampState
from ih_lens.errors import InputError
from ih_lens.validate import layer_indices, number


@dataclass(frozen=True)
class ShiftedLayer(Clamp):
    """A layer whose keys are made of the previous token's embedding, its queries and values of the token's own.

    All layers before it are left out: its input is the embedding. What remains to be learned is to match and to copy.
    (Singh et al. 2024, "layer 1" clamped.)

    Attributes:
        layer: the layer, at least 1.

    Examples:
        >>> ShiftedLayer(1)
    """

    split_inputs: ClassVar[bool] = True

    layer: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if number("layer", self.layer, whole=True) == 0:
            raise InputError("layer: expected a layer with layers before it, got 0; give 1 or a later one")

    def places(self, cfg: Any) -> list[Place]:
        """The layer's input, and that of its keys."""
        (layer,) = layer_indices([self.layer], cfg.n_layers)
        return [
            Place(f"blocks.{layer}.hook_resid_pre", layer=layer),
            Place(f"blocks.{layer}.hook_k_input", layer=layer),
        ]

    def observed(self, cfg: Any) -> list[str]:
        """What the embedding gives."""
        return ["hook_embed", *(["hook_pos_embed"] if cfg.positional_embedding_type == "standard" else [])]

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:
        """The embedding, for keys moved on by one; the first token has nothing before it and keeps its own."""
        embedding = state.seen("hook_embed", len(natural))
        for_keys = place.hook.endswith("hook_k_input")
        if for_keys:
            embedding = torch.cat([embedding[:, :1], embedding[:, :-1]], dim=1)
        if "hook_pos_embed" in state.observed:
            embedding = embedding + state.seen("hook_pos_embed", len(natural))
        return Target(embedding[:, :, None].expand_as(natural) if for_keys else embedding)
