"""A store of measurements on disk: one file per entry, named by the content of everything it depends on.

An entry is a safetensors file: the arrays of a labelled data set, with its labels and a checksum of the arrays
in the header. It appears under its name only when it is complete, so several processes may write side by side
and an interruption leaves no half of one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors.numpy import save

from ih_lens.atomic import clear_temporaries, write_bytes
from ih_lens.errors import DamagedFileError
from ih_lens.reading import parse_json, read_tensors_and_texts, shown
from ih_lens.report.form import Form

_FORMAT = "ih_lens measurement 1"


def entry_key(measurement: str, ingredients: Mapping[str, Any]) -> str:
    """The name of an entry: the measurement and a hash of all that its numbers depend on.

    Examples:
        >>> entry_key("losses", {"weights": "abc"}) == entry_key("losses", {"weights": "abd"})
        False
    """
    text = json.dumps([measurement, ingredients], sort_keys=True, default=str)
    return f"{measurement}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def digest(dataset: xr.Dataset) -> str:
    """A checksum of every array and label of a data set, whatever order they are in."""
    total = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        values = dataset[name]
        array = np.array(values.to_numpy(), order="C")
        total.update(f"{name}{values.dims}{array.shape}".encode())
        total.update(array.tobytes() if array.dtype.kind in "fiub" else json.dumps(array.tolist()).encode())
    return total.hexdigest()


class MeasurementStore:
    """Measurements in one folder, found by their key.

    Args:
        folder: made when the first entry is written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where an entry lies, or would lie."""
        return self.folder / f"{key}.safetensors"

    def write(self, key: str, dataset: xr.Dataset) -> None:
        """Keep a data set under a key, atomically; what killed writers left stays until `clear_temporaries`."""
        write_bytes(self.path(key), _pack(key, dataset), clear=False)

    def read(self, key: str, form: Form | None = None) -> xr.Dataset | None:
        """The data set under a key, None if there is none.

        Args:
            key: its name.
            form: what the measurement of that name must look like; None for any.

        Raises:
            DamagedFileError: if the entry is truncated, altered or something else, or of another form.
        """
        path = self.path(key)
        if not os.path.lexists(path):
            return None
        try:
            found = _unpack(key, path)
            if form is not None:
                form.require(found)
            return found
        except (DamagedFileError, KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise DamagedFileError(
                f"the stored measurement {path} is damaged ({shown(error)}); delete it and measure again"
            ) from error

    def clear_temporaries(self) -> None:
        """Remove what killed writers left in the folder and right below it."""
        if self.folder.is_dir():
            for place in (self.folder, *filter(Path.is_dir, self.folder.iterdir())):
                clear_temporaries(place)

    def holds(self, key: str, form: Form | None = None) -> bool:
        """Whether a whole entry is there."""
        try:
            return self.read(key, form) is not None
        except DamagedFileError:
            return False


def _is_text(array: np.ndarray) -> bool:
    return array.dtype.kind not in "fiub"


def _pack(key: str, dataset: xr.Dataset) -> bytes:
    """The bytes of an entry: numbers as arrays, text labels in the header."""
    arrays = {str(name): np.array(dataset[name].to_numpy(), order="C") for name in dataset.variables}
    labels = {
        "variables": {
            name: {
                "dims": dataset[name].dims,
                "attrs": dataset[name].attrs,
                "text": array.tolist() if _is_text(array) else None,
            }
            for name, array in arrays.items()
        },
        "coordinates": [str(name) for name in dataset.coords],
        "attrs": dataset.attrs,
    }
    header = {"format": _FORMAT, "key": key, "digest": digest(dataset), "labels": json.dumps(labels)}
    return save({name: array for name, array in arrays.items() if not _is_text(array)}, header)


def _unpack(key: str, path: Path) -> xr.Dataset:
    """Read an entry and hold it against its checksum."""
    tensors, header = read_tensors_and_texts(path)
    if header.get("format") != _FORMAT or header.get("key") != key:
        raise ValueError(f"it says {header.get('format')!r} and {header.get('key')!r}")
    labels = parse_json(header["labels"], path, finite=False)
    variables = {
        name: (entry["dims"], tensors[name].numpy() if entry["text"] is None else _texts(entry["text"]), entry["attrs"])
        for name, entry in labels["variables"].items()
    }
    coordinates = {name: variables.pop(name) for name in labels["coordinates"]}
    dataset = xr.Dataset(variables, coordinates, labels["attrs"])
    if digest(dataset) != header["digest"]:
        raise ValueError("its numbers differ from their checksum")
    return dataset


def _texts(written: Any) -> np.ndarray:
    """Labels, one or lists of them."""
    labels = np.array(written)
    if labels.dtype.kind != "U" and labels.size:
        raise ValueError(f"its labels are {shown(written)}, expected texts")
    return labels
