"""Keeping downloaded weights within a share of the disk: what was fetched here is dropped again, oldest first.

The Hugging Face cache is everybody's, so it is noted file by file what was absent before it was fetched here, and
nothing else is ever removed. The notes lie beside the cache's own locks, where all processes that share the cache see
them; if they are lost, the weights simply stay. Only weights are counted and dropped: configurations and tokenizers are
small, and shared by a model's revisions. (huggingface_hub itself can only drop whole revisions, which may hold files
of others, or many checkpoints at once.)
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import constants

from ih_lens.atomic import to_json_bytes, write_bytes
from ih_lens.errors import DamagedFileError
from ih_lens.models.hub_files import HubFile, cached_file
from ih_lens.reading import read_json

_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{40,64}")
_SECONDS_BETWEEN_LOOKS = 0.2
"""While all room is taken by downloads that others are just loading."""


@dataclass(frozen=True)
class Weights:
    """The weights of one checkpoint.

    Attributes:
        repository: its full name.
        commit: 40 hexadecimal digits.
        files: path and size.
    """

    repository: str
    commit: str
    files: Mapping[str, HubFile]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files.values())

    @property
    def name(self) -> str:
        """What notes and locks are called."""
        paths = hashlib.sha256(json.dumps(sorted(self.files)).encode()).hexdigest()[:8]
        return f"{self.repository.replace('/', '--')}--{self.commit}--{paths}"


@dataclass(frozen=True)
class DiskBudget:
    """How many bytes of weights, fetched here and by other processes with budgets, may lie in the cache.

    One checkpoint that is larger than the budget is fetched nevertheless, and dropped when it was loaded.
    """

    n_bytes: int

    @contextmanager
    def room_for(self, weights: Weights) -> Generator[None]:
        """Make room for weights, and keep them from being dropped meanwhile; drop what is too much afterwards."""
        with self._lock(weights.name):
            self._claim(weights)
            yield
        with self._lock("notes"):
            self._drop_oldest(self._notes(), self.n_bytes)

    def used(self) -> int:
        """Bytes of weights that were fetched here and lie in the cache."""
        with self._lock("notes"):
            return sum(note["size"] for note in self._notes().values())

    def discard(self, weights: Weights) -> None:
        """Drop weights that are of no use, if they were fetched here; call inside `room_for`."""
        note = self._notes().get(weights.name)
        if note is not None:
            _remove_files(note)

    def _claim(self, weights: Weights) -> None:
        while True:
            with self._lock("notes"):
                notes = self._notes()
                own = notes.pop(weights.name, None) or _note_of(weights)
                left = self._drop_oldest(notes, self.n_bytes - own["size"])
                fits = sum(note["size"] for note in left.values()) + own["size"] <= self.n_bytes
                if fits or not left:
                    if own["files"]:
                        write_bytes(self._folder / f"{weights.name}.json", to_json_bytes(own))
                    return
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _drop_oldest(self, notes: Mapping[str, dict[str, Any]], n_bytes: int) -> dict[str, dict[str, Any]]:
        """Drop until so many bytes are left, or all others are in use; returns what is left."""
        left = dict(notes)
        for name in sorted(notes, key=lambda name: notes[name]["fetched"]):
            if sum(note["size"] for note in left.values()) <= n_bytes:
                break
            with suppress(Timeout), self._lock(name, timeout=0):
                _remove_files(notes[name])
                (self._folder / f"{name}.json").unlink(missing_ok=True)
                del left[name]
        return left

    @property
    def _folder(self) -> Path:
        return Path(constants.HF_HUB_CACHE) / ".locks" / "ih_lens-downloads"

    def _lock(self, name: str, *, timeout: int = -1) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / f"{name}.lock", timeout=timeout)

    def _notes(self) -> dict[str, dict[str, Any]]:
        """What was fetched, by name; what is no note is taken for lost, because files are removed as notes say."""
        found: dict[str, dict[str, Any]] = {}
        for file in self._folder.glob("*.json"):
            with suppress(DamagedFileError):
                note = read_json(file)
                if _is_note(note):
                    found[file.stem] = note
        return found


def _is_note(note: Any) -> bool:
    """Whether it names files of one revision of one repository, and nothing outside."""
    if not isinstance(note, dict) or note.keys() != {"repository", "commit", "files", "size", "fetched"}:
        return False
    texts = _REPOSITORY.fullmatch(str(note["repository"])) and _COMMIT.fullmatch(str(note["commit"]))
    numbers = type(note["size"]) is int and note["size"] >= 0 and type(note["fetched"]) in (int, float)
    files = note["files"]
    return bool(texts) and numbers and isinstance(files, dict) and all(map(_is_inside, files, files.values()))


def _is_inside(path: str, sha256: Any) -> bool:
    """Whether a path stays in its folder, and a hash is one."""
    parts = path.split("/")
    sound = all(part not in ("", ".", "..") for part in parts) and "\\" not in path and "\x00" not in path
    return sound and (sha256 is None or bool(_SHA256.fullmatch(str(sha256))))


def _note_of(weights: Weights) -> dict[str, Any]:
    """Written before anything is fetched, so that what an interrupted process leaves behind is known too."""
    absent = {
        path: file
        for path, file in weights.files.items()
        if cached_file(weights.repository, path, weights.commit) is None
    }
    return {
        "repository": weights.repository,
        "commit": weights.commit,
        "files": {path: file.sha256 for path, file in absent.items()},
        "size": sum(file.size for file in absent.values()),
        "fetched": time.time(),
    }


def _remove_files(note: Mapping[str, Any]) -> None:
    """Remove the files of a note from their revision, and their content unless another revision has the same."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{note['repository'].replace('/', '--')}"
    for path, sha256 in note["files"].items():
        if sha256 is not None:
            for half in (place / "blobs").glob(f"{sha256}*.incomplete"):
                half.unlink(missing_ok=True)
        pointer = place / "snapshots" / note["commit"] / path
        if not os.path.lexists(pointer):
            continue
        content = pointer.resolve()
        pointer.unlink()
        others = (other.resolve() for other in (place / "snapshots").rglob("*") if other.is_symlink())
        if content.parent == (place / "blobs").resolve() and content not in others:
            content.unlink(missing_ok=True)
