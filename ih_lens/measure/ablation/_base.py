"""What an ablation is made of: the copies of the examples that run side by side, and how a kind changes the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ih_lens.types import HeadIndex, Hook, ModelLike

Group = tuple[HeadIndex, ...]
LayerOutputs = Mapping[int, Float[Tensor, "_example _pos head_index d_head"]]
"""Per layer what the heads' z is replaced by; the first two axes have length 1 where it is the same for all."""


@dataclass(frozen=True, repr=False)  # TransformerLens prints every hook that it adds, and these hold tensors
class Worlds:
    """Copies of the same examples along the batch axis: first the clean one if there is one, then one per group.

    Attributes:
        groups: the heads that are ablated in each copy.
        has_clean: whether the first copy is left as it is.
        first_layer: the layer that the copies start from, still equal.
        n_layers: of the model.
        n_examples: in each copy.
        shares_attention: whether what attention computes alike for all copies may be computed once.
        replacements: what takes the place of the heads' outputs.
    """

    groups: Sequence[Group]
    has_clean: bool
    first_layer: int
    n_layers: int
    n_examples: int
    shares_attention: bool
    replacements: LayerOutputs

    @property
    def n_copies(self) -> int:
        """Copies of the examples, the clean one among them."""
        return len(self.groups) + self.has_clean

    def split(self, values: Tensor) -> Tensor:
        """The batch axis as [world, example]."""
        return values.unflatten(0, (-1, self.n_examples))

    def first_copy(self, values: Tensor, hook: Any) -> Tensor:  # noqa: ARG002
        """A hook that goes on with the first copy only."""
        return values[: self.n_examples]

    def attend_once_in_first_layer(self) -> list[Hook]:
        """Hooks that let one copy attend for all in the layer that they enter as equals."""
        if not self.shares_attention:
            return []

        def every_copy(z: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            return z.repeat(self.n_copies, 1, 1, 1)

        attention = f"blocks.{self.first_layer}.attn.hook_"
        return [*((attention + name, self.first_copy) for name in "qkv"), (attention + "z", every_copy)]

    def replace_heads(self) -> list[Hook]:
        """Hooks that put the replacement in place of each copy's own heads, at `hook_z`."""
        layers = sorted({head.layer for group in self.groups for head in group})
        return [(f"blocks.{layer}.attn.hook_z", self._replace_in(layer)) for layer in layers]

    def _replace_in(self, layer: int) -> Callable[..., Tensor]:
        def replace(z: Float[Tensor, "row pos head_index d_head"], hook: Any) -> Tensor:  # noqa: ARG001
            replaced = z.clone()
            worlds = self.split(replaced)
            for world, group in enumerate(self.groups, start=int(self.has_clean)):
                for head in group:
                    if head.layer == layer:
                        worlds[world, :, :, head.head] = self.replacements[layer][:, :, head.head].to(z)
            return replaced

        return replace


@runtime_checkable
class AblationKind(Protocol):
    """One way to ablate; what all have in common, the replaced heads, is not part of it.

    Attributes:
        own_patterns: whether an ablated copy attends by its own queries and keys (True) or by the clean ones (False),
            which is all that the pass without hooks needs to know; None if only hooks can tell what this kind does.
    """

    own_patterns: bool | None

    def check(self, model: ModelLike) -> None:
        """Refuse a model that this kind cannot be measured on.

        Raises:
            CapabilityError: with the reason.
        """
        ...

    def needs_clean(self, first_layer: int, n_layers: int) -> bool:
        """Whether copies that start at `first_layer` need an untouched copy beside them."""
        ...

    def hooks(self, worlds: Worlds) -> list[Hook]:
        """What else to change in the run; these come before the hooks that replace heads."""
        ...
