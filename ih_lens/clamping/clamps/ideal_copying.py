"""Perfect copying: what a head attends to is what is predicted, however its values are wired."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.clamping._base import Clamp, Place, Rows, Target, chosen_rows, given_rows
from ih_lens.clamping.state import ClampState
from ih_lens.errors import InputError
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import head_index


@dataclass(frozen=True)
class _IdealCopying(Clamp):
    """Copying by one head.

    Attributes:
        head: the head whose attention is copied from.
    """

    head: HeadSpelling

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "head", HeadIndex.parse(self.head))

    def _layer_and_head(self, cfg: Any) -> HeadIndex:
        return head_index(self.head, cfg.n_layers, cfg.n_heads)

    def observed(self, cfg: Any) -> list[str]:
        """The head's pattern."""
        return [f"blocks.{self._layer_and_head(cfg).layer}.attn.hook_pattern"]

    def _pattern(self, state: ClampState, n_rows: int) -> Float[Tensor, "row query_pos key_pos"]:
        layer, head = self._layer_and_head(state.model.cfg)
        return state.seen(f"blocks.{layer}.attn.hook_pattern", n_rows)[:, head]


@dataclass(frozen=True)
class IdealCopyLogits(_IdealCopying):
    """Logits are the log of a head's attention, summed over the tokens attended to.

    Tokens that the model never predicts are left out. Gradients reach queries and keys only. (Singh et al. 2024,
    subcircuit C.)

    Attributes:
        keys: positions that count: "all", "even", "odd", or numbers; attention on the others is left out.
        floor: added to every probability before the logarithm.

    Examples:
        >>> IdealCopyLogits("L1H3", keys="odd")
    """

    keys: Rows = "all"
    floor: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "keys", given_rows("keys", self.keys))
        if not self.floor > 0:
            raise InputError(f"floor: expected a small positive number, got {self.floor!r}")

    def places(self, cfg: Any) -> list[Place]:  # noqa: ARG002
        """The logits."""
        return [Place("unembed.hook_out")]

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """The logarithms; queries that attend to none of the keys keep their logits."""
        pattern = self._pattern(state, len(natural))
        tokens = state.tokens_of(len(natural), natural.shape[1]).to(natural.device)
        can_be_predicted = (tokens < natural.shape[-1])[:, None]
        counted = pattern * (chosen_rows(self.keys, pattern.shape[-1]).to(pattern.device) & can_be_predicted)
        mass = counted.sum(dim=-1, keepdim=True)
        some = mass > 0
        probabilities = counted / torch.where(some, mass, 1)
        columns = torch.where(can_be_predicted, tokens[:, None], 0).expand_as(probabilities)
        shares = torch.zeros_like(natural).scatter_add(-1, columns, probabilities.to(natural))
        return Target((shares + self.floor).log(), some)


@dataclass(frozen=True)
class IdealOV(_IdealCopying):
    """A head that writes, for every token attended to, the direction that raises this token's logit.

    Gradients reach queries and keys only.

    Attributes:
        gain: length of what is written with full attention on one token.

    Examples:
        >>> IdealOV("L1H3", gain=8.0)
    """

    replaces = False

    gain: float = 1.0

    def places(self, cfg: Any) -> list[Place]:
        """What the layer's attention writes."""
        layer = self._layer_and_head(cfg).layer
        return [Place(f"blocks.{layer}.hook_attn_out", layer=layer)]

    def observed(self, cfg: Any) -> list[str]:
        """The head's pattern, and its own output, which is taken away."""
        return [*super().observed(cfg), f"blocks.{self._layer_and_head(cfg).layer}.attn.hook_z"]

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """What the layer writes with this head's part exchanged."""
        parts = cast(Any, state.model)
        layer, head = self._layer_and_head(parts.cfg)
        own = state.seen(f"blocks.{layer}.attn.hook_z", len(natural))[:, :, head] @ parts.blocks[layer].attn.W_O[head]
        tokens = state.tokens_of(len(natural), natural.shape[1]).to(natural.device)
        directions = torch.nn.functional.normalize(parts.unembed.W_U.detach().T, dim=-1)[tokens]
        copied = self.gain * self._pattern(state, len(natural)) @ directions
        return Target(natural + (copied - own).to(natural))
