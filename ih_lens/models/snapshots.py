"""Snapshots of a model in training: one folder each, safetensors and JSON, readable without what trained them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ih_lens.errors import DamagedFileError
from ih_lens.models.config_json import config_from_json
from ih_lens.models.construction import build_model
from ih_lens.models.files import entry, file_inside, read_record, read_tensors
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.models.origin import Origin, record_origin
from ih_lens.models.tokenizers import attach_tokenizer

SNAPSHOT_FORMAT = "ih_lens snapshot"
SNAPSHOT_VERSION = 1
SNAPSHOT_RECORD = "snapshot.json"
SNAPSHOT_WEIGHTS = "model.safetensors"
_FOLDER_NAME = re.compile(r"step_(\d{8,})")


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
        step: optimizer steps before it; 0 is the untrained model.
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
        model = build_model(cfg, smeared_keys=self.smeared_keys)
        model.cfg.init_weights = True
        copy_parameters(weights, model, self.path)
        attach_tokenizer(model, _read(self.path).get("tokenizer"), self.path)
        tokenizer = None if model.tokenizer is None else "tokenizer.json of the run"
        start: Any = getattr(model.tokenizer, "bos_token_id", None)
        record_origin(model, Origin("snapshot", str(self), tokenizer=tokenizer, start_token=start))
        return model

    def _cfg(self, device: str, dtype: torch.dtype | None) -> HookedTransformerConfig:
        file = self.path / SNAPSHOT_RECORD
        return config_from_json(entry(_read(self.path), "model", dict, file), device=device, dtype=dtype, path=file)


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, by step; what is still being written has another name."""
    if not folder.is_dir():
        return []
    found = [Snapshot(place) for place in folder.iterdir() if _FOLDER_NAME.fullmatch(place.name)]
    return sorted(found, key=lambda snapshot: snapshot.step)


def copy_parameters(tensors: dict[str, Tensor], model: nn.Module, path: Path) -> None:
    """Fill the model's parameters from tensors of the same names and shapes.

    Raises:
        DamagedFileError: naming what is missing, left over or of another shape.
    """
    parameters = dict(model.named_parameters())
    different = sorted(set(parameters) ^ set(tensors))
    different += [name for name in set(parameters) & set(tensors) if parameters[name].shape != tensors[name].shape]
    if different:
        raise DamagedFileError(
            f"{path}: the weights do not fit the configuration: {', '.join(different[:5])}; restore it from a copy"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _read(folder: Path) -> dict[str, Any]:
    return read_record(folder, SNAPSHOT_RECORD, kind=SNAPSHOT_FORMAT, version=SNAPSHOT_VERSION)
