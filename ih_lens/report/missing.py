"""Snapshots that a table goes on without, as their weights could not be had or used: noted beside the measurements.

Workers are other processes, so what they could not measure is written down in files. A note goes away when its snapshot
is measured.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ih_lens.atomic import to_json_bytes, write_bytes, writing_into
from ih_lens.errors import DamagedFileError, DownloadError, NumericsError
from ih_lens.models.hub_retries import is_transient
from ih_lens.models.run_protocols import SnapshotLike
from ih_lens.reading import read_json

_MOST_IN_A_ROW = 3
"""So many snapshots that failed one after the other on the connection mean that there is none."""


@dataclass(frozen=True)
class MissingNotes:
    """The notes of one store.

    Attributes:
        store: the store's folder.
    """

    store: Path

    def add(self, snapshot: SnapshotLike, error: DownloadError | NumericsError) -> None:
        """Note why a snapshot is missing."""
        write_bytes(self._file(snapshot), to_json_bytes({"snapshot": str(snapshot), "reason": str(error)}))
        if is_transient(error):
            with writing_into(self._folder), self._failures.open("ab") as file:
                file.write(b".")

    def remove(self, snapshot: SnapshotLike) -> None:
        """A snapshot was measured."""
        with writing_into(self._folder):
            self._file(snapshot).unlink(missing_ok=True)
            self._failures.unlink(missing_ok=True)

    def reason(self, snapshot: SnapshotLike) -> str:
        """Why a snapshot is missing."""
        try:
            return str(read_json(self._file(snapshot))["reason"])
        except (DamagedFileError, KeyError, TypeError):  # the note is gone, or no note
            return "its weights could not be had"

    def expect_connection(self) -> None:
        """A new call begins; what failed in an earlier one tells nothing any more."""
        with writing_into(self._folder):
            self._failures.unlink(missing_ok=True)

    def require_connection(self) -> None:
        """Stop asking when nobody answers, instead of waiting once for each of hundreds of snapshots.

        Raises:
            DownloadError: if the last few snapshots failed on the connection, after all their retries.
        """
        if self._failures.exists() and self._failures.stat().st_size >= _MOST_IN_A_ROW:
            raise DownloadError(f"not tried, because {_MOST_IN_A_ROW} others failed on the connection just before")

    def _file(self, snapshot: SnapshotLike) -> Path:
        return self._folder / f"{hashlib.sha256(snapshot.weights_hash.encode()).hexdigest()[:40]}.json"

    @property
    def _failures(self) -> Path:
        return self._folder / "failures_in_a_row"

    @property
    def _folder(self) -> Path:
        return self.store / "missing"
