"""What a table asks of a run and of its snapshots, wherever they come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig


@runtime_checkable
class SnapshotLike(Protocol):
    """A model at one moment of its training: `Snapshot`, `PublishedSnapshot`."""

    @property
    def step(self) -> int:
        """Optimiser steps before it."""
        ...

    @property
    def tokens_elapsed(self) -> int:
        """Tokens trained on before it."""
        ...

    @property
    def weights_hash(self) -> str:
        """What tells these weights from all others."""
        ...

    @property
    def smeared_keys(self) -> bool:
        """Whether its attention layers smear their keys."""
        ...

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration, known without its weights."""
        ...

    def load(self, *, device: str = "cpu", dtype: torch.dtype | None = None) -> HookedTransformer:
        """The model; raises `DownloadError` if its weights cannot be had now."""
        ...


@runtime_checkable
class RunLike(Protocol):
    """A model's training, as far as it has snapshots: `Run`, `PublishedRun`. A dataclass with the field `path`."""

    @property
    def path(self) -> Path:
        """The folder that its measurements lie in."""
        ...

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration."""
        ...

    @property
    def smeared_keys(self) -> bool:
        """Whether the model's attention layers smear their keys."""
        ...

    @property
    def snapshots(self) -> Sequence[SnapshotLike]:
        """By step."""
        ...

    @property
    def n_steps(self) -> int:
        """Steps of the whole training."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the last step is among the snapshots."""
        ...

    @property
    def exponential(self) -> bool:
        """Whether a logarithmic axis suits the snapshots."""
        ...

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What is known of the training: `training`, `corpus`, `published`."""
        ...

    @property
    def held_out(self) -> Int[Tensor, "example pos"] | None:
        """Examples that were not trained on; None if there are none."""
        ...
