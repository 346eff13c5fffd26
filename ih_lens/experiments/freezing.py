"""Layers held at what they are in other snapshots, while the rest learns from the beginning (Singh et al. 2024)."""

from collections.abc import Mapping
from pathlib import Path

from ih_lens.clamping._base import Clamp
from ih_lens.clamping.clamps.frozen import Graft
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.models.snapshots import Snapshot


def freezing_conditions(
    sources: Mapping[str, Snapshot | LoadedModel | str | Path], *, till_layer: int = 0
) -> dict[str, list[Clamp]]:
    """Conditions in which everything up to a layer is another training's, for `train_conditions`.

    A snapshot of the same seed has the embeddings that the model begins with; one of another seed has not, and then
    nothing of what is frozen was made for what learns.

    Args:
        sources: snapshots, their folders, or models in memory (which a training cannot write down), by name.
        till_layer: the last layer that is frozen, the embeddings included.

    Returns:
        Clamps by condition, "free" among them.

    Examples:
        >>> conditions = freezing_conditions({"same seed": run.snapshots[-1]})
        >>> train_conditions(cfg, RestartCycle(), config, conditions, out="runs")
    """
    return {"free": [], **{name: [Graft(source, till_layer=till_layer)] for name, source in sources.items()}}
