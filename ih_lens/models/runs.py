"""Reading a run folder: what was trained, on what, and its snapshots."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.errors import DamagedFileError
from ih_lens.models.config_json import config_from_json
from ih_lens.models.files import entry, file_inside, read_record
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.models.snapshots import Snapshot, list_snapshots
from ih_lens.reading import parse_json, read_content, read_tensors, shown

RUN_FORMAT = "ih_lens run"
RUN_VERSION = 1
RUN_RECORD = "run.json"
LOSSES_FILE = "losses.jsonl"
HELD_OUT_FILE = "held_out.safetensors"
SNAPSHOTS_FOLDER = "snapshots"
_ENTRIES: dict[str, type] = {
    **dict.fromkeys(("model", "training", "corpus"), dict),
    **dict.fromkeys(("precision", "forward"), str),
    **dict.fromkeys(("tokens_per_step", "n_parameters"), int),
    "smeared_keys": bool,
}
"""What resuming and tables read of the record."""
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
        lines = read_content(file).split(b"\n")[:-1]  # a line without end is still being written
        # one text of all lines: a parser called for each would take several times as long
        rows = parse_json(b"[" + b",".join(lines) + b"]", file)
        for place, row in enumerate(rows):
            if not _is_row(row, place):
                raise DamagedFileError(f"{file} is altered (line {place + 1} is {shown(row)}); restore it from a copy")
        return pd.DataFrame({name: [row[name] for row in rows] for name in _COLUMNS}).astype(_COLUMNS)

    @property
    def held_out(self) -> Int[Tensor, "example pos"] | None:
        """Examples of the corpus that were never trained on; None if none were kept. The file is read once."""
        return self._held_out

    @cached_property
    def _held_out(self) -> Int[Tensor, "example pos"] | None:
        if not (self.path / HELD_OUT_FILE).exists():
            return None
        sha256 = entry(self.manifest, "held_out_sha256", str, self.path / RUN_RECORD)
        file = file_inside(self.path, HELD_OUT_FILE)
        tokens = read_tensors(file, sha256=sha256).get("tokens")
        if tokens is None or tokens.ndim != 2 or tokens.dtype != torch.int32 or not tokens.numel():
            raise DamagedFileError(f"{file} holds no examples [example, pos] of token ids; restore it from a copy")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.cfg.d_vocab:
            raise DamagedFileError(
                f"{file} holds ids outside the vocabulary of {self.cfg.d_vocab}; restore it from a copy"
            )
        return tokens.long()


def _is_row(row: Any, step: int) -> bool:
    """Whether a line of the losses is that of a step, which are written one after the other."""
    return (
        isinstance(row, dict)
        and type(row.get("step")) is int
        and row["step"] == step
        and type(row.get("tokens_elapsed")) is int
        and 0 <= row["tokens_elapsed"] < 2**63
        and type(row.get("loss")) in (int, float)
        and type(row.get("lr")) in (int, float)
    )


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
    record, file = read_record(folder, RUN_RECORD, kind=RUN_FORMAT, version=RUN_VERSION), folder / RUN_RECORD
    for name, kind in _ENTRIES.items():
        entry(record, name, kind, file)
    if "published" in record:
        raise DamagedFileError(f"{file} speaks of a published model, which is no run; restore it from a copy")
    return Run(folder, record)
