"""Activations of another model on the same tokens: a snapshot's patterns, outputs, queries, keys, values, residuals."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ih_lens.clamping._base import Clamp, Heads, Place, Target, places_of_heads, several_heads
from ih_lens.clamping.state import ClampState, Reference
from ih_lens.errors import CapabilityError, InputError
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.models.snapshots import Snapshot
from ih_lens.validate import layer_indices, listed

Source = Snapshot | LoadedModel | str | Path


@dataclass(frozen=True)
class _Frozen(Clamp):
    """Held at what a frozen model has on the same tokens.

    Attributes:
        source: a snapshot, its folder, or a model in memory (a plan with one cannot be saved).
    """

    source: Source

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.source, str | Path):
            object.__setattr__(self, "source", Snapshot(self.source))
        elif not isinstance(self.source, LoadedModel | Snapshot):
            raise InputError(f"source: expected a snapshot, its folder or a model, got {self.source!r}")

    def model(self, cfg: Any) -> LoadedModel:
        """The frozen model.

        Raises:
            InputError: if its heads, width or layers are others than those of the clamped model.
        """
        source = self.source
        frozen = source if isinstance(source, LoadedModel) else _load(source, str(cfg.device))
        for size in ("n_layers", "n_heads", "d_model", "d_head"):
            if getattr(frozen.cfg, size) != getattr(cfg, size):
                raise InputError(
                    f"source: its {size} is {getattr(frozen.cfg, size)}, the clamped model's {getattr(cfg, size)}; "
                    "give a snapshot of the same architecture"
                )
        return frozen

    def references(self, cfg: Any) -> list[Reference]:
        """Its activations at the same places."""
        frozen = self.model(cfg)
        return [Reference(frozen, place.hook) for place in self.places(cfg)]

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:
        """The frozen model's activation."""
        found = state.activation(Reference(self.model(state.model.cfg), place.hook), len(natural))
        return Target(place.select(found.to(natural)))

    def to_json(self) -> dict[str, Any]:
        """The clamp as JSON takes it; its source as a path."""
        if not isinstance(self.source, Snapshot):
            raise InputError("source: a model in memory cannot be written down; give a snapshot or its folder")
        return {**super().to_json(), "source": str(self.source.path.resolve())}


@dataclass(frozen=True)
class _FrozenHeads(_Frozen):
    """Some heads held at a frozen model's.

    Attributes:
        heads: one head or several.
    """

    hook: ClassVar[str]
    axis: ClassVar[int] = 2

    heads: Heads

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "heads", several_heads(self.heads))

    def places(self, cfg: Any) -> list[Place]:
        """The hook of these heads."""
        return places_of_heads(several_heads(self.heads), cfg, self.hook, self.axis)


@dataclass(frozen=True)
class FreezePattern(_FrozenHeads):
    """Attention patterns of a snapshot.

    Examples:
        >>> FreezePattern(run.snapshots[-1], "L0H3")
    """

    hook = "hook_pattern"
    axis = 1


@dataclass(frozen=True)
class FreezeZ(_FrozenHeads):
    """Outputs of a snapshot's heads, before W_O."""

    hook = "hook_z"


@dataclass(frozen=True)
class FreezeQ(_FrozenHeads):
    """Queries of a snapshot's heads, before any rotation."""

    hook = "hook_q"


@dataclass(frozen=True)
class _FrozenShared(_FrozenHeads):
    """Keys or values, which groups of heads may share."""

    def places(self, cfg: Any) -> list[Place]:
        """The hook of the groups of these heads.

        Raises:
            CapabilityError: if a group is named only in part.
        """
        n_shared = cfg.n_key_value_heads or cfg.n_heads
        size = cfg.n_heads // n_shared
        found: list[Place] = []
        for place in super().places(cfg):
            groups = {head // size for head in place.heads}
            if len(groups) * size != len(place.heads):
                raise CapabilityError(
                    f"layer {place.layer}: groups of {size} heads share keys and values, so they can only be held "
                    "together; name all heads of a group"
                )
            found.append(Place(place.hook, place.axis, tuple(sorted(groups)), place.layer))
        return found


@dataclass(frozen=True)
class FreezeK(_FrozenShared):
    """Keys of a snapshot's heads, before any rotation or smearing."""

    hook = "hook_k"


@dataclass(frozen=True)
class FreezeV(_FrozenShared):
    """Values of a snapshot's heads."""

    hook = "hook_v"


@dataclass(frozen=True)
class FreezeResid(_Frozen):
    """The residual stream as a snapshot has it before some layers.

    Attributes:
        layers: those whose input is held.
    """

    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "layers", listed("layers", self.layers, "a list of layers"))

    def places(self, cfg: Any) -> list[Place]:
        """The inputs of these layers."""
        chosen = layer_indices(self.layers, cfg.n_layers)
        return [Place(f"blocks.{layer}.hook_resid_pre", layer=layer) for layer in chosen]


@dataclass(frozen=True)
class Graft(_Frozen):
    """Everything up to and including a layer is a snapshot's; only later layers are the model's own.

    Attributes:
        till_layer: the last layer that is the snapshot's.

    Examples:
        >>> Graft(run.snapshots[-1], till_layer=0)
    """

    till_layer: int

    def places(self, cfg: Any) -> list[Place]:
        """The output of that layer."""
        (layer,) = layer_indices([self.till_layer], cfg.n_layers)
        return [Place(f"blocks.{layer}.hook_resid_post", layer=layer)]


@lru_cache(maxsize=8)
def _load(source: Any, device: str) -> LoadedModel:
    """Weights that never change, read once for all clamps that hold to them."""
    return source.load(device=device).requires_grad_(False).eval()
