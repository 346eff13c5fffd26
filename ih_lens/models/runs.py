"""Reading a run folder: what was trained, on what, and its snapshots."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from ih_lens.errors import DamagedFileError
from ih_lens.models.config_json import config_from_json
from ih_lens.models.files import entry, file_inside, read_record, read_tensors
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.models.snapshots import Snapshot, list_snapshots

RUN_FORMAT = "ih_lens run"
RUN_VERSION = 1
RUN_RECORD = "run.json"
LOSSES_FILE = "losses.jsonl"
HELD_OUT_FILE = "held_out.safetensors"
SNAPSHOTS_FOLDER = "snapshots"
_COLUMNS = {"step": int, "tokens_elapsed": int, "loss": float, "lr": float}


@dataclass(frozen=True)
class Run:
    """One model's training, as its folder tells it; see `open_run`.

    Attributes:
        path: the folder.
        manifest: `run.json`: configuration of the model and of training, corpus, versions, precision, threads.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration, for the CPU; a new copy each time."""
        file = self.path / RUN_RECORD
        return config_from_json(entry(self.manifest, "model", dict, file), path=file)

    @property
    def smeared_keys(self) -> bool:
        """Whether the model's attention layers smear their keys."""
        return entry(self.manifest, "smeared_keys", bool, self.path / RUN_RECORD)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots that are there, by step; the folder is read each time."""
        return list_snapshots(self.path / SNAPSHOTS_FOLDER)

    @property
    def n_steps(self) -> int:
        """Steps of the whole training."""
        training = entry(self.manifest, "training", dict, self.path / RUN_RECORD)
        return entry(training, "n_steps", int, self.path / RUN_RECORD)

    @property
    def finished(self) -> bool:
        """Whether the snapshot of the last step is there."""
        snapshots = self.snapshots
        return bool(snapshots) and snapshots[-1].step == self.n_steps

    @property
    def exponential(self) -> bool:
        """Whether the snapshots' steps are powers of two, so that a logarithmic axis suits them."""
        training = entry(self.manifest, "training", dict, self.path / RUN_RECORD)
        return entry(training, "snapshots", dict, self.path / RUN_RECORD).get("kind") == "powers_of_two"

    @property
    def losses(self) -> pd.DataFrame:
        """The loss of every step so far.

        Returns:
            Columns `step`, `tokens_elapsed` (both before the step), `loss` (mean over the step's examples in nats,
            of the model as it was before the step) and `lr`. The file is read each time.
        """
        file = file_inside(self.path, LOSSES_FILE)
        text = file.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()  # a line without end is still being written
        try:
            rows = [json.loads(line) for line in lines]
            columns = {name: [kind(row[name]) for row in rows] for name, kind in _COLUMNS.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(f"{file} is altered ({error!r}); restore it from a copy") from error
        return pd.DataFrame(columns)

    @property
    def held_out(self) -> Int[Tensor, "example pos"] | None:
        """Examples of the corpus that were never trained on; None if none were kept. The file is read once."""
        return self._held_out

    @cached_property
    def _held_out(self) -> Int[Tensor, "example pos"] | None:
        if not (self.path / HELD_OUT_FILE).exists():
            return None
        sha256 = self.manifest.get("held_out_sha256")
        tensors = read_tensors(file_inside(self.path, HELD_OUT_FILE), sha256=sha256)
        return tensors["tokens"].long()


def open_run(path: str | Path) -> Run:
    """Open the folder of a finished, interrupted or still running training.

    Args:
        path: what `train` got as `out`.

    Raises:
        DamagedFileError: if the folder is no run, or was written in another version of the format.

    Examples:
        >>> run = open_run("runs/2L")
        >>> [snapshot.step for snapshot in run.snapshots]
        [0, 50, 100]
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DamagedFileError(f"{folder} is no folder; give what train() got as out=")
    return Run(folder, read_record(folder, RUN_RECORD, kind=RUN_FORMAT, version=RUN_VERSION))
