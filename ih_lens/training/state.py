"""What resuming needs: weights, the optimiser's moments and how far the log had come, the latest complete one only."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ih_lens.atomic import new_folder, remove_folder, to_json_bytes
from ih_lens.errors import DamagedFileError
from ih_lens.models.files import entry, file_inside, folders_inside, read_record
from ih_lens.models.snapshots import copy_parameters, snapshot_folder_name
from ih_lens.reading import read_tensors, sha256_of, shown
from ih_lens.training.optimizer import optimizer_tensors, restore_optimizer
from ih_lens.training.tensors_file import write_tensors

_FORMAT, _VERSION = "ih_lens training state", 1
_RECORD, _TENSORS = "state.json", "state.safetensors"
_FOLDER_NAME = re.compile(r"step_[0-9]{8,18}")
_NUMBER = re.compile("[0-9]{1,6}")


@dataclass(frozen=True)
class Position:
    """How far a training has come.

    Attributes:
        step: steps done.
        log_bytes: length of the loss log at that moment.
        held: what clamps that wait for the loss remember.
    """

    step: int
    log_bytes: int
    held: dict[str, list[bool]] = field(default_factory=dict[str, list[bool]])


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.AdamW, position: Position) -> None:
    """Write the state of one step, then remove the one before it."""
    older = _complete(folder)
    target = folder / snapshot_folder_name(position.step)
    if target in older:
        return
    tensors = {f"weights.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    tensors |= optimizer_tensors(optimizer, model)
    with new_folder(target) as place:
        write_tensors(place / _TENSORS, tensors)
        record = {
            "format": _FORMAT,
            "version": _VERSION,
            "step": position.step,
            "log_bytes": position.log_bytes,
            "held": position.held,
            "sha256": sha256_of(place / _TENSORS),
        }
        (place / _RECORD).write_bytes(to_json_bytes(record))
    for state in older:
        remove_folder(state)


def restore_state(folder: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> Position | None:
    """Put the latest state back into the model and the optimiser; None if there is none.

    Raises:
        DamagedFileError: if it was truncated or altered.
    """
    states = _complete(folder)
    if not states:
        return None
    latest = states[-1]
    record = read_record(latest, _RECORD, kind=_FORMAT, version=_VERSION)
    file = latest / _RECORD
    tensors = read_tensors(file_inside(latest, _TENSORS), sha256=entry(record, "sha256", str, file))
    step, log_bytes = entry(record, "step", int, file), entry(record, "log_bytes", int, file)
    if latest.name != snapshot_folder_name(step):
        raise DamagedFileError(f"{file} says step {step}, which is not that of its folder; restore it from a copy")
    position = Position(step, log_bytes, _held(record, file))
    prefix = "weights."
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    copy_parameters(weights, model, latest)
    restore_optimizer(optimizer, model, tensors, position.step)
    for older in states[:-1]:
        remove_folder(older)
    return position


def _complete(folder: Path) -> list[Path]:
    """The states that were written completely, by step; names sort as their steps do."""
    return sorted(folders_inside(folder, _FOLDER_NAME), key=lambda place: int(place.name.removeprefix("step_")))


def _held(record: dict[str, Any], file: Path) -> dict[str, list[bool]]:
    """What clamps remember: two flags each, by number; nothing in states from before there were clamps."""
    found = entry({"held": {}} | record, "held", dict, file)
    for number, flags in found.items():
        is_pair = isinstance(flags, list) and len(flags) == 2 and all(isinstance(flag, bool) for flag in flags)
        if not _NUMBER.fullmatch(number) or not is_pair:
            raise DamagedFileError(f"{file}: 'held' has {shown(number)}: {shown(flags)}; restore it from a copy")
    return found
