"""A table's numbers on disk: one zarr folder that any program with xarray reads, and that is checked when loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xarray as xr
import zarr

from ih_lens.atomic import new_folder
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.report.model_data import description_of
from ih_lens.report.store import digest

TABLE_FORMAT = "ih_lens model analysis table"
TABLE_VERSION = 1
_MODELS = "models"


def save_datasets(path: str | Path, datasets: Mapping[str, xr.Dataset], record: Mapping[str, Any]) -> None:
    """Write one group per model below `models`, and the record as JSON at the root.

    The folder appears under its name only when it is complete; a saved table that is there is replaced.

    Raises:
        InputError: if something else is there.
    """
    target = Path(path)
    if target.exists() and not _is_table(target):
        raise InputError(f"{target} exists and is no saved table; give another path or remove it")
    groups = {
        f"{_MODELS}/{place:03d}-{quote(name, safe='')}": data for place, (name, data) in enumerate(datasets.items())
    }
    root = {
        "format": TABLE_FORMAT,
        "version": TABLE_VERSION,
        "record": json.dumps(record),
        "digests": json.dumps({name: digest(data) for name, data in datasets.items()}),
    }
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), **groups})
    with new_folder(target, replace=True) as folder:
        tree.to_zarr(folder, zarr_format=2, consolidated=True)


def load_datasets(path: str | Path) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    """The inverse of `save_datasets`.

    Raises:
        DamagedFileError: if the folder is no saved table, of another version, or altered.
    """
    folder = Path(path)
    if not _is_table(folder):
        raise DamagedFileError(f"{folder} is no saved table; give the folder that table.save(path) wrote")
    try:
        return _load(folder)
    except DamagedFileError:
        raise
    except Exception as error:  # whatever zarr, its codecs or JSON raise for altered bytes
        raise DamagedFileError(f"{folder} is damaged ({error}); make the table again and save it") from error


def _load(folder: Path) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    with xr.open_datatree(folder, engine="zarr") as tree:
        tree.load()
    version = tree.attrs.get("version")
    if version != TABLE_VERSION:
        raise DamagedFileError(
            f"{folder} is a table of version {version!r}, this ih_lens reads version {TABLE_VERSION}; make it again"
        )
    groups = [group.to_dataset() for _, group in sorted(tree[_MODELS].children.items())]
    datasets = {description_of(group)["name"]: group for group in groups}
    if {name: digest(data) for name, data in datasets.items()} != json.loads(tree.attrs["digests"]):
        raise DamagedFileError(f"{folder} is altered: its numbers differ from their checksums; make the table again")
    return datasets, json.loads(tree.attrs["record"])


def _is_table(folder: Path) -> bool:
    """Whether a folder says that it is a saved table, of whatever version."""
    try:
        return zarr.open_group(folder, mode="r").attrs.get("format") == TABLE_FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False
