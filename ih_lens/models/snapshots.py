"""Snapshots of a model in training: one folder each, safetensors and JSON, readable without what trained them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ih_lens.errors import DamagedFileError
from ih_lens.models.config_json import config_from_json
from ih_lens.models.construction import build_model, parameter_shapes
from ih_lens.models.files import entry, file_inside, folders_inside, read_record
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.models.origin import Origin, record_origin
from ih_lens.models.tokenizers import attach_tokenizer
from ih_lens.reading import cut_short, read_tensors, shown

SNAPSHOT_FORMAT = "ih_lens snapshot"
SNAPSHOT_VERSION = 1
SNAPSHOT_RECORD = "snapshot.json"
SNAPSHOT_WEIGHTS = "model.safetensors"
_FOLDER_NAME = re.compile(r"step_[0-9]{8,18}")


def snapshot_folder_name(step: int) -> str:
    """`step_00000050` for step 50."""
    return f"step_{step:08d}"


@dataclass(frozen=True, init=False)
class Snapshot:
    """The model as it was after `step` steps of training.

    Args:
        path: the snapshot's folder; it holds `model.safetensors` and `snapshot.json` and needs nothing else.

    Attributes:
        path: the folder.
        step: optimiser steps before it; 0 is the untrained model.
        tokens_elapsed: tokens trained on before it.
        weights_hash: sha256 of `model.safetensors`.
        smeared_keys: whether its attention layers smear their keys.

    Raises:
        DamagedFileError: if the folder is no snapshot, is incomplete, or has another version of the format.

    Examples:
        >>> model = Snapshot("runs/2L/snapshots/step_00000050").load()
    """

    path: Path
    step: int
    tokens_elapsed: int
    weights_hash: str
    smeared_keys: bool

    def __init__(self, path: str | Path) -> None:
        folder = Path(path)
        record = _read(folder)
        file = folder / SNAPSHOT_RECORD
        values = {
            "path": folder,
            "step": entry(record, "step", int, file),
            "tokens_elapsed": entry(record, "tokens_elapsed", int, file),
            "weights_hash": entry(record, "weights_sha256", str, file),
            "smeared_keys": entry(record, "smeared_keys", bool, file),
        }
        file_inside(folder, SNAPSHOT_WEIGHTS)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        place = self.path.resolve()
        run = f"{place.parent.parent.name}/" if place.parent.name == "snapshots" else ""
        return f"{run}{place.name} (sha256 {self.weights_hash[:16]})"

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration, for the CPU; a new copy each time."""
        return self._cfg("cpu", None)

    def load(self, *, device: str = "cpu", dtype: torch.dtype | None = None) -> HookedTransformer:
        """The model, with the tokenizer of the run that the snapshot lies in, if that has one.

        Args:
            device: where to put it.
            dtype: of the weights; by default as they were saved.

        Raises:
            DamagedFileError: if the weights are truncated, altered or do not belong to the configuration.

        Examples:
            >>> run.snapshots[-1].load()(tokens).shape
            torch.Size([10, 101, 4096])
        """
        weights = read_tensors(file_inside(self.path, SNAPSHOT_WEIGHTS), sha256=self.weights_hash)
        cfg = self._cfg(device, dtype)
        cfg.init_weights = False
        self._require_fit(cfg, weights)
        model = build_model(cfg, smeared_keys=self.smeared_keys)
        model.cfg.init_weights = True
        copy_parameters(weights, model, self.path)
        attach_tokenizer(model, self._tokenizer(), self.path)
        tokenizer = None if model.tokenizer is None else "tokenizer.json of the run"
        start: Any = getattr(model.tokenizer, "bos_token_id", None)
        record_origin(model, Origin("snapshot", str(self), tokenizer=tokenizer, start_token=start))
        return model

    def _tokenizer(self) -> dict[str, Any] | None:
        """What the record says of the tokenizer of the run."""
        record = _read(self.path)
        return (
            None if record.get("tokenizer") is None else entry(record, "tokenizer", dict, self.path / SNAPSHOT_RECORD)
        )

    def _require_fit(self, cfg: HookedTransformerConfig, weights: dict[str, Tensor]) -> None:
        """Refuse a configuration of other sizes than the weights, before a model of its sizes takes any memory."""
        n_parts = max(cfg.n_layers, cfg.num_experts or 0)
        if n_parts > len(weights):
            raise DamagedFileError(
                f"{self.path} says {n_parts} layers or experts, for {len(weights)} tensors; restore it from a copy"
            )
        try:
            shapes = parameter_shapes(cfg, smeared_keys=self.smeared_keys)
        except Exception as error:  # whatever TransformerLens and PyTorch raise for values that make no sense
            raise DamagedFileError(
                f"{self.path}: no model has the configuration of its record ({shown(error)}); restore it from a copy"
            ) from error
        require_shapes(weights, shapes, self.path)
        stored = self.cfg.dtype
        if wrong := [name for name, weight in weights.items() if weight.dtype != stored]:
            raise DamagedFileError(
                f"{self.path}: {wrong[0]} is {weights[wrong[0]].dtype}, expected was {stored}; restore it from a copy"
            )

    def _cfg(self, device: str, dtype: torch.dtype | None) -> HookedTransformerConfig:
        file = self.path / SNAPSHOT_RECORD
        return config_from_json(entry(_read(self.path), "model", dict, file), device=device, dtype=dtype, path=file)


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, by step; what is still being written has another name."""
    found = [Snapshot(place) for place in folders_inside(folder, _FOLDER_NAME)]
    for snapshot in found:
        if snapshot.path.name != snapshot_folder_name(snapshot.step):
            raise DamagedFileError(
                f"{snapshot.path} holds the snapshot of step {snapshot.step}; give the folder the name "
                f"{snapshot_folder_name(snapshot.step)}, or restore it from a copy"
            )
    return sorted(found, key=lambda snapshot: snapshot.step)


def copy_parameters(tensors: dict[str, Tensor], model: nn.Module, path: Path) -> None:
    """Fill the model's parameters from tensors of the same names and shapes.

    Raises:
        DamagedFileError: naming what is missing, left over or of another shape.
    """
    parameters = dict(model.named_parameters())
    require_shapes(tensors, {name: parameter.shape for name, parameter in parameters.items()}, path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def require_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], path: Path) -> None:
    """Refuse tensors of other names or shapes.

    Raises:
        DamagedFileError: naming what is missing, left over or of another shape.
    """
    different = sorted(set(shapes) ^ set(tensors))
    different += [name for name in sorted(set(shapes) & set(tensors)) if shapes[name] != tensors[name].shape]
    if different:
        raise DamagedFileError(
            f"{path}: the weights do not fit the configuration: {cut_short(', '.join(different[:5]))}; "
            "restore it from a copy"
        )


def _read(folder: Path) -> dict[str, Any]:
    return read_record(folder, SNAPSHOT_RECORD, kind=SNAPSHOT_FORMAT, version=SNAPSHOT_VERSION)
