"""Activations kept as they are without the other clamps: what an ablation does through one path alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ih_lens.clamping._base import Clamp, Place, Target
from ih_lens.clamping.state import ClampState, Reference
from ih_lens.validate import layer_indices, listed, one_of

_HOOKS = {name: f"hook_{name}" for name in ("pattern", "q", "k", "v", "z")}


@dataclass(frozen=True)
class Preserve(Clamp):
    """Patterns, queries, keys, values or outputs of some layers, from a pass of the same model without any clamp.

    With `ZeroHead("L0H1")` and `Preserve("pattern", layers=[1])` head L0H1 acts on layer 1 through values only.
    (Singh et al. 2024: composition measured by ablating with patterns or with values preserved.)

    Attributes:
        what: "pattern", "q", "k", "v" or "z".
        layers: where; clamps of the same activation there have no effect.
        detach: whether no gradient flows through the pass without clamps; the authors let it flow.

    Examples:
        >>> [ZeroHead("L0H1"), Preserve("v", layers=[1])]
    """

    what: str
    layers: Sequence[int]
    detach: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("what", self.what, list(_HOOKS))
        object.__setattr__(self, "layers", listed("layers", self.layers, "a list of layers"))

    def places(self, cfg: Any) -> list[Place]:
        """The whole activation of each layer."""
        chosen = layer_indices(self.layers, cfg.n_layers)
        return [Place(f"blocks.{layer}.attn.{_HOOKS[self.what]}", layer=layer) for layer in chosen]

    def references(self, cfg: Any) -> list[Reference]:
        """The same activations without clamps."""
        return [Reference(None, place.hook, with_gradient=not self.detach) for place in self.places(cfg)]

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:
        """The activation of the other pass."""
        return Target(state.activation(Reference(None, place.hook), len(natural)))
