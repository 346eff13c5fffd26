"""Pattern-preserving ablation: later heads attend as if nothing had happened."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ih_lens.measure.ablation._base import Worlds
from ih_lens.models.capabilities import require_frozen_patterns
from ih_lens.types import Hook, ModelLike


class PatternPreserving:
    """The head's output is replaced, while every attention pattern stays that of the unablated run.

    Values, MLPs and the scales of norms are computed anew. The paper records the patterns in a first run; here an
    untouched copy of the examples runs along, so that only one layer's patterns exist at a time.
    """

    own_patterns: bool | None = False

    def check(self, model: ModelLike) -> None:
        """Patterns must be replaceable."""
        require_frozen_patterns(model)

    def needs_clean(self, first_layer: int, n_layers: int) -> bool:
        """In the layer of the head itself all patterns are still those of the unablated run."""
        return first_layer < n_layers - 1

    def hooks(self, worlds: Worlds) -> list[Hook]:
        """Every copy attends as the clean one does."""
        later = range(worlds.first_layer + 1, worlds.n_layers)
        freeze = _attend_as_clean if worlds.shares_attention else _take_clean_pattern
        return [hook for layer in later for hook in freeze(worlds, f"blocks.{layer}.attn.hook_")]


def _attend_as_clean(worlds: Worlds, attention: str) -> list[Hook]:
    """Only the clean copy attends, and moves the values of all copies side by side as one long value."""

    def side_by_side(
        values: Float[Tensor, "row pos value_head d_head"],
        hook: Any,  # noqa: ARG001
    ) -> Float[Tensor, "example pos value_head d_values"]:
        return worlds.split(values).permute(1, 2, 3, 0, 4).flatten(3)

    def apart(
        z: Float[Tensor, "example pos head_index d_values"],
        hook: Any,  # noqa: ARG001
    ) -> Float[Tensor, "row pos head_index d_head"]:
        return z.unflatten(3, (worlds.n_copies, -1)).permute(3, 0, 1, 2, 4).flatten(0, 1)

    return [
        (attention + "q", worlds.first_copy),
        (attention + "k", worlds.first_copy),
        (attention + "v", side_by_side),
        (attention + "z", apart),
    ]


def _take_clean_pattern(worlds: Worlds, attention: str) -> list[Hook]:
    """Every copy computes its pattern, and then takes that of the clean one."""

    def freeze(pattern: Float[Tensor, "row head_index query_pos key_pos"], hook: Any) -> Tensor:  # noqa: ARG001
        return worlds.split(pattern)[0].repeat(worlds.n_copies, 1, 1, 1)

    return [(attention + "pattern", freeze)]
