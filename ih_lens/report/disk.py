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
from ih_lens.reading import parse_json, read_json, shown
from ih_lens.report.model_data import description_of
from ih_lens.report.store import digest
from ih_lens.report.table_check import require_complete
from ih_lens.report.zarr_check import require_plain

TABLE_FORMAT = "ih_lens model analysis table"
TABLE_VERSION = 2
"""Tables of version 1 were compressed, so that reading one meant to decode what anybody may have written."""
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
    plain = {f"/{name}": {str(part): {"compressors": None} for part in data.variables} for name, data in groups.items()}
    # every chunk is written, also one of nothing but NaN: xarray's own argument for it fails on some versions of zarr
    with new_folder(target, replace=True) as folder, zarr.config.set({"array.write_empty_chunks": True}):
        tree.to_zarr(folder, zarr_format=2, consolidated=True, encoding=plain)


def load_datasets(path: str | Path) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    """The inverse of `save_datasets`.

    Raises:
        DamagedFileError: if the folder is no saved table, of another version, or altered.
    """
    folder = Path(path)
    if not _is_table(folder):
        raise DamagedFileError(f"{folder} is no saved table; give the folder that table.save(path) wrote")
    version = _attributes(folder).get("version")
    if version != TABLE_VERSION:
        raise DamagedFileError(
            f"{folder} is a table of version {shown(version)}, this ih_lens reads version {TABLE_VERSION}; "
            "make it again"
        )
    root = require_plain(folder)
    try:
        return _load(folder, root)
    except DamagedFileError:
        raise
    except Exception as error:  # whatever zarr, xarray or a missing name raise for altered metadata
        raise DamagedFileError(f"{folder} is damaged ({shown(error)}); make the table again and save it") from error


def _load(folder: Path, root: Mapping[str, Any]) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    # of the consolidated metadata alone, which were checked
    plain: Any = {"zarr_format": 2, "consolidated": True, "decode_times": False, "decode_timedelta": False}
    with xr.open_datatree(folder, engine="zarr", **plain) as tree:
        tree.load()
    groups = [group.to_dataset() for _, group in sorted(tree[_MODELS].children.items())]
    datasets = {description_of(group)["name"]: group for group in groups}
    if {name: digest(data) for name, data in datasets.items()} != parse_json(root["digests"], folder):
        raise DamagedFileError(f"{folder} is altered: its numbers differ from their checksums; make the table again")
    record = parse_json(root["record"], folder, finite=False)
    require_complete(datasets, record)
    return datasets, record


def _is_table(folder: Path) -> bool:
    """Whether a folder says that it is a saved table, of whatever version."""
    try:
        return _attributes(folder).get("format") == TABLE_FORMAT
    except DamagedFileError:
        return False


def _attributes(folder: Path) -> dict[str, Any]:
    """What the root of a store says, nothing of which is decoded."""
    file = folder / ".zattrs"
    attributes = {} if file.is_symlink() else read_json(file)  # nothing outside the folder is read
    return attributes if isinstance(attributes, dict) else {}
