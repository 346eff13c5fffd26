"""One published checkpoint of a model: known by its commit, fetched only when it is loaded."""

from dataclasses import dataclass
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ih_lens.errors import DamagedFileError, DownloadError, InputError
from ih_lens.models.checkpoints import PublishedCheckpoint
from ih_lens.models.config_json import config_from_json
from ih_lens.models.disk_budget import DiskBudget, Weights
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.models.hub_files import HubFile, cached_file, cached_weights, list_files, small_files, weights_of
from ih_lens.models.hub_retries import IncompleteDownload, hub_said, with_retries
from ih_lens.models.loading import load_model
from ih_lens.models.origin import origin_of

_SECONDS_BEFORE_RETRY = 2.0
_SAME = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab", "n_ctx", "act_fn", "normalization_type")
"""What must be equal in all checkpoints of a run, whose configuration is read once."""


@dataclass(frozen=True)
class PublishedSnapshot:
    """A model as it was published at one step of its training; loading it downloads what is not in the cache.

    Attributes:
        repository: full name on the hub.
        checkpoint: revision, step and tokens elapsed.
        commit: what the revision was when it was looked up; None if the repository has no such revision.
        model: the configuration, as `config_to_json` writes it.
        dtype: of the weights when loaded, such as "float32".
        budget: how much of the disk downloads may take.
        retries: how often what may pass is tried again.
    """

    repository: str
    checkpoint: PublishedCheckpoint
    commit: str | None
    model: dict[str, Any]
    dtype: str
    budget: DiskBudget
    retries: int

    @property
    def step(self) -> int:
        """Optimiser steps before it."""
        return self.checkpoint.step

    @property
    def tokens_elapsed(self) -> int:
        """Tokens trained on before it."""
        return self.checkpoint.tokens_elapsed

    @property
    def smeared_keys(self) -> bool:
        """Published models have no smeared keys."""
        return False

    @property
    def weights_hash(self) -> str:
        """Repository, commit, file if there are several, and dtype: together they fix every weight."""
        file = "" if self.checkpoint.file is None else f"/{self.checkpoint.file}"
        return f"{self.repository}@{self.commit or f'no {self.checkpoint.revision}'}{file} ({self.dtype})"

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration, for the CPU; a new copy each time."""
        return config_from_json(self.model)

    def __str__(self) -> str:
        label = self.checkpoint.file or self.checkpoint.revision
        return f"{self.repository} {label} (commit {(self.commit or 'unknown')[:12]})"

    def load(self, *, device: str = "cpu", dtype: torch.dtype | None = None) -> HookedTransformer:
        """The model, fetched if need be, and dropped from the cache again when the disk budget is used up.

        Args:
            device: where to put it.
            dtype: of the weights; by default what the run was opened with.

        Raises:
            DownloadError: if the weights cannot be had: no such revision, gated, or every retry failed.
            InputError: if the checkpoint has another configuration than the run.

        Examples:
            >>> model = published_run("pythia-70m", revisions=[512]).snapshots[0].load()
        """
        if self.commit is None:
            raise DownloadError(f"{self.repository} has no revision {self.checkpoint.revision!r}")
        chosen = dtype or getattr(torch, self.dtype)
        try:
            model = with_retries(
                lambda: self._fetch_and_load(device, chosen),
                retries=self.retries,
                pause=_SECONDS_BEFORE_RETRY,
                what=str(self),
            )
        except DownloadError:
            raise
        except Exception as error:  # whatever the hub or the connection brings, and what loading makes of it
            said = hub_said(error)
            if said is None:
                raise
            raise DownloadError(f"{said}; {self.retries} retries") from error
        self._require_same(model)
        return model

    def _fetch_and_load(self, device: str, dtype: torch.dtype) -> HookedTransformer:
        commit, file = str(self.commit), self.checkpoint.file
        cached, files = cached_weights(self.repository, commit, file), dict[str, HubFile]()
        if not cached:
            files = list_files(self.repository, commit)
        weights = Weights(self.repository, commit, cached or weights_of(files, file))
        with self.budget.room_for(weights):
            if not cached:
                self._fetch(weights, [*small_files(files), *weights.files])
            try:
                return load_model(self.repository, device=device, dtype=dtype, **self._which())
            except DamagedFileError as error:
                self.budget.discard(weights)  # so that a later call fetches it anew
                raise DownloadError(str(error)) from error

    def _fetch(self, weights: Weights, paths: list[str]) -> None:
        shown = not are_progress_bars_disabled()
        disable_progress_bars()  # the table has one of its own
        try:
            huggingface_hub.snapshot_download(self.repository, revision=self.commit, allow_patterns=paths)
        finally:
            if shown:
                enable_progress_bars()
        for path, file in weights.files.items():
            found = cached_file(self.repository, path, weights.commit)
            if found is None or found.stat().st_size != file.size:
                self.budget.discard(weights)
                size = "nothing" if found is None else f"{found.stat().st_size:,} bytes"
                raise IncompleteDownload(f"{path} should have {file.size:,} bytes, the cache holds {size}")

    def _which(self) -> dict[str, Any]:
        """How `load_model` is told which checkpoint: by its commit, or by the label of a file."""
        if self.checkpoint.file is None:
            return {"revision": self.commit}
        return {"checkpoint": int(self.checkpoint.file.rsplit("_", 1)[-1].removesuffix(".pth"))}

    def _require_same(self, model: HookedTransformer) -> None:
        origin, mine = origin_of(model), self.cfg
        if origin is not None and origin.commit not in (None, self.commit):
            raise DownloadError(
                f"the revision was moved from commit {self.commit} to {origin.commit}; open the run with refresh=True"
            )
        different = [name for name in _SAME if getattr(model.cfg, name) != getattr(mine, name)]
        if different:
            raise InputError(
                f"{self} differs from the other checkpoints of its run in {', '.join(different)}; "
                "measure it in a run of its own"
            )
