"""The writing side of a run folder: manifest, loss log, snapshots, state, and the lock that keeps others out."""

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ih_lens.atomic import TEMPORARY_PREFIX, clear_temporaries, new_folder, to_json_bytes, write_bytes
from ih_lens.errors import DamagedFileError, RunError
from ih_lens.models.files import entry, library_versions
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.runs import (
    LOSSES_FILE,
    RUN_FORMAT,
    RUN_RECORD,
    RUN_VERSION,
    SNAPSHOTS_FOLDER,
    Run,
    open_run,
)
from ih_lens.models.snapshots import (
    SNAPSHOT_FORMAT,
    SNAPSHOT_RECORD,
    SNAPSHOT_VERSION,
    SNAPSHOT_WEIGHTS,
    snapshot_folder_name,
)
from ih_lens.reading import sha256_of
from ih_lens.training.feature_embedding import plain_parameters
from ih_lens.training.state import Position, restore_state, save_state
from ih_lens.training.tensors_file import write_tensors

STATE_FOLDER = "state"
_LOCK = ".lock"
_MOST_THREADS = 4096
_IDENTITY = ("model", "smeared_keys", "training", "corpus", "clamps")
"""The parts of the manifest that decide what comes out; a run is continued only with the same ones."""
_INDIFFERENT = {"training.device", "training.state_every"}
"""Entries of these parts that do not."""


@contextmanager
def locked(out: Path) -> Generator[None]:
    """Hold a run folder for this process alone; the operating system frees it when the process ends in any way.

    Raises:
        RunError: if another process is training into it, or the path cannot be a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"out: {out} is a file or lies below one; give the path of a folder") from error
    try:
        _refuse_foreign(out)
    except RunError:
        # whoever begins a run here makes the lock before any other file, so that without it the files are foreign
        if not ((out / _LOCK).exists() or (out / RUN_RECORD).exists()):
            raise
    lock = FileLock(out / _LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(
            f"{out} is being trained into by another process; wait for it, stop it, or give another out="
        ) from error
    try:
        if not (out / RUN_RECORD).exists():
            _refuse_foreign(out)
        yield
    finally:
        lock.release()


class RunFolder:
    """A run folder that is being trained into; hold its lock.

    Args:
        out: the folder.
        manifest: what `run.json` is to say, beside format, version and library versions.
        files: contents of other files that belong to the run, by name.

    Raises:
        RunError: if the folder holds a run of another configuration, or files that are no run's.
    """

    def __init__(self, out: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.path, self._versions = out, library_versions()
        if (out / RUN_RECORD).exists():
            self.run = open_run(out)
            _refuse_other(self.run, manifest)
        else:
            record = {"format": RUN_FORMAT, "version": RUN_VERSION, **manifest, "versions": self._versions}
            write_bytes(out / RUN_RECORD, to_json_bytes(record))
            self.run = open_run(out)
        for place in (out, out / SNAPSHOTS_FOLDER, out / STATE_FOLDER):
            place.mkdir(exist_ok=True)
            clear_temporaries(place)
        for name, content in files.items():
            if not (out / name).exists():
                write_bytes(out / name, content)

    @property
    def n_threads(self) -> int:
        """Threads of PyTorch with which the run began; others would sum in another order, to other weights.

        Raises:
            DamagedFileError: if the manifest says a number that nobody would have asked for.
        """
        file = self.path / RUN_RECORD
        n_threads = entry(self.run.manifest, "n_threads", int, file)
        if not 1 <= n_threads <= _MOST_THREADS:
            raise DamagedFileError(
                f"{file}: 'n_threads' should be from 1 to {_MOST_THREADS}, found {n_threads}; restore it from a copy"
            )
        return n_threads

    def resume(self, model: HookedTransformer, optimizer: torch.optim.AdamW) -> Position:
        """Bring model, optimiser and loss log to the last saved step, which is returned with what clamps remember.

        Raises:
            DamagedFileError: if the state is damaged, or the log or a snapshot from before it is missing.
        """
        position = restore_state(self.path / STATE_FOLDER, model, optimizer) or Position(0, 0)
        log = self.path / LOSSES_FILE
        log.touch()
        if log.stat().st_size < position.log_bytes:
            raise DamagedFileError(f"{log} is shorter than it was; delete {self.path} and train again")
        os.truncate(log, position.log_bytes)
        return position

    def require_snapshots(self, steps: list[int]) -> None:
        """Refuse to continue a run that has lost snapshots which it would not take again."""
        there = {snapshot.step for snapshot in self.run.snapshots}
        missing = [step for step in steps if step not in there]
        if missing:
            raise DamagedFileError(
                f"{self.path} has lost its snapshots of steps {missing[:5]}; restore them, or delete it and train again"
            )

    def save_state(
        self, model: HookedTransformer, optimizer: torch.optim.AdamW, step: int, held: dict[str, list[bool]]
    ) -> None:
        """Save what resuming at this step needs."""
        log = self.path / LOSSES_FILE
        with log.open("rb") as file:
            os.fsync(file.fileno())
        save_state(self.path / STATE_FOLDER, model, optimizer, Position(step, log.stat().st_size, held))

    def save_snapshot(self, model: HookedTransformer, step: int) -> None:
        """Write the model as the snapshot of this step, unless it is there already."""
        target = self.path / SNAPSHOTS_FOLDER / snapshot_folder_name(step)
        if target.exists():
            return
        with new_folder(target) as place:
            write_tensors(place / SNAPSHOT_WEIGHTS, dict(plain_parameters(model)))
            record = {
                "format": SNAPSHOT_FORMAT,
                "version": SNAPSHOT_VERSION,
                "step": step,
                "tokens_elapsed": step * self.run.manifest["tokens_per_step"],
                "weights_sha256": sha256_of(place / SNAPSHOT_WEIGHTS),
                "smeared_keys": self.run.smeared_keys,
                "tokenizer": self.run.manifest["tokenizer"],
                "versions": self._versions,
                "model": self.run.manifest["model"],
            }
            (place / SNAPSHOT_RECORD).write_bytes(to_json_bytes(record))


class LossLog:
    """The loss of every step, a line of JSON each.

    Args:
        run: the run folder; None writes nothing.
        tokens_per_step: tokens that one step trains on.
    """

    def __init__(self, run: Path | None, tokens_per_step: int) -> None:
        self._file = None if run is None else (run / LOSSES_FILE).open("a", buffering=1)
        self._tokens_per_step = tokens_per_step

    def __enter__(self) -> "LossLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, step: int, loss: float, lr: float) -> None:
        """Note the loss of the model after `step` steps on the examples of the next one."""
        if self._file is not None:
            line = {"step": step, "tokens_elapsed": step * self._tokens_per_step, "loss": loss, "lr": lr}
            self._file.write(json.dumps(line) + "\n")


def _refuse_foreign(out: Path) -> None:
    """A folder without a manifest must hold nothing but what an interrupted start left."""
    foreign = [
        place.name for place in out.iterdir() if place.name != _LOCK and not place.name.startswith(TEMPORARY_PREFIX)
    ]
    if foreign:
        raise RunError(
            f"out: {out} holds files that are no run's ({', '.join(sorted(foreign)[:3])}); give a new or empty folder"
        )


def _refuse_other(run: Run, manifest: Mapping[str, Any]) -> None:
    """Compare what decides the outcome, and name the first differences."""
    stored = {name: value for part in _IDENTITY for name, value in _flatten(part, run.manifest.get(part))}
    asked = {name: value for part in _IDENTITY for name, value in _flatten(part, manifest.get(part))}
    different = [
        name for name in {**stored, **asked} if name not in _INDIFFERENT and stored.get(name) != asked.get(name)
    ]
    if different:
        listed = "; ".join(
            f"{name}: {stored.get(name)!r} there, {asked.get(name)!r} asked for" for name in different[:3]
        )
        raise RunError(
            f"out: {run.path} holds a run of another configuration ({listed}). "
            "Give another out=, or the configuration of that run to continue it"
        )


def _flatten(name: str, value: Any) -> list[tuple[str, Any]]:
    """Nested records as (dotted name, value); the corpus is compared by what its fingerprint covers."""
    if isinstance(value, Mapping):
        items = {"fingerprint": value.get("fingerprint")} if name == "corpus" else value
        return [pair for key, inner in items.items() for pair in _flatten(f"{name}.{key}", inner)]
    return [(name, value)]
