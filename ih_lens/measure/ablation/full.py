"""Full ablation: everything after the head is computed anew."""

from ih_lens.measure.ablation._base import Worlds
from ih_lens.types import Hook, ModelLike


class Full:
    """The head's output is replaced, and all later queries, keys, values, MLPs and norms see it ("full ablation")."""

    own_patterns: bool | None = True

    def check(self, model: ModelLike) -> None:
        """Any model will do."""

    def needs_clean(self, first_layer: int, n_layers: int) -> bool:  # noqa: ARG002
        """Nothing comes from the unablated run."""
        return False

    def hooks(self, worlds: Worlds) -> list[Hook]:  # noqa: ARG002
        """Nothing but the replacement."""
        return []
