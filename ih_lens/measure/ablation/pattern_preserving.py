"""Pattern-preserving ablation: later heads attend as if nothing had happened."""

from collections.abc import Callable
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

    def check(self, model: ModelLike) -> None:
        """Patterns must be replaceable."""
        require_frozen_patterns(model)

    def needs_clean(self, first_layer: int, n_layers: int) -> bool:
        """In the layer of the head itself all patterns are still those of the unablated run."""
        return first_layer < n_layers - 1

    def hooks(self, worlds: Worlds) -> list[Hook]:
        """Every copy takes the patterns of the clean one."""
        later = range(worlds.first_layer + 1, worlds.n_layers)
        return [(f"blocks.{layer}.attn.hook_pattern", _clean_pattern(worlds)) for layer in later]


def _clean_pattern(worlds: Worlds) -> Callable[..., Tensor]:
    def freeze(pattern: Float[Tensor, "row head_index query_pos key_pos"], hook: Any) -> Tensor:  # noqa: ARG001
        clean = worlds.split(pattern)[0]
        return clean.repeat(len(worlds.groups) + 1, 1, 1, 1)

    return freeze
