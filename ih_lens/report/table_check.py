"""Whether a loaded table says all that its views read: every name that they ask for, of the type that they expect."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

import xarray as xr

from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.reading import parse_json, shown
from ih_lens.report.model_data import description_of, joint_ablation_of, phase_change_of, reasons_of

_RECORD: dict[str, type] = {
    "series": dict,
    "rows": list,
    "settings": dict,
    "examples": dict,
    "scoring": dict,
    "collection": dict,
}
_NUMBERS = {"examples": ("n_examples", "n_pos"), "scoring": ("early", "late", "window")}
_MODEL: dict[str, Any] = {
    **dict.fromkeys(("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab", "n_steps", "n_snapshots"), int),
    **dict.fromkeys(("name", "positions"), str),
    **dict.fromkeys(("attention_only", "smeared_keys", "finished", "exponential"), bool),
    "seed": (int, NoneType),
    "data_seed": (int, NoneType),
    "published": (dict, NoneType),
}
_VARIABLES: dict[str, tuple[str, ...]] = {
    "step": ("snapshot",),
    "tokens_elapsed": ("snapshot",),
    "head_type": ("layer", "head"),
    "prefix_matching": ("snapshot", "layer", "head"),
    "random_token": ("snapshot", "example"),
    "at_indices": ("snapshot", "example", "at_index"),
}


def require_complete(datasets: Mapping[str, xr.Dataset], record: Any) -> None:
    """Check what a table was made of.

    Raises:
        ValueError: naming what is missing or of another type.
    """
    _require(isinstance(record, dict), "record", record)
    for name, expected in _RECORD.items():
        _require(isinstance(record.get(name), expected), name, record.get(name))
    for title, members in record["series"].items():
        known = isinstance(members, list) and bool(members) and all(isinstance(member, str) for member in members)
        _require(known and set(members) <= set(datasets), f"series {title!r:.40}", members)
    _require(bool(datasets) and bool(record["series"]), "series", record["series"])
    _require(all(isinstance(row, str) for row in record["rows"]), "rows", record["rows"])
    _require(all(isinstance(record["settings"].get(name), str) for name in ("ablation", "replace")), "settings", record)
    for part, names in _NUMBERS.items():
        _require(all(type(record[part].get(name)) is int for name in names), part, record[part])
    _require(isinstance(record["collection"].get("missing"), dict), "collection", record["collection"])
    for dataset in datasets.values():
        _require_complete_model(dataset)


def _require_complete_model(dataset: xr.Dataset) -> None:
    description, reasons, joint = description_of(dataset), reasons_of(dataset), joint_ablation_of(dataset)
    for name, expected in _MODEL.items():
        value = description.get(name)
        is_flag = isinstance(value, bool)
        _require(isinstance(value, expected) and (expected is bool or not is_flag), name, value)
    change = phase_change_of(dataset)
    _require(_is_phase_change(change), "phase_change", change)
    _require(all(isinstance(reason, str) for reason in reasons.values()), "not_measured", reasons)
    for name, dims in _VARIABLES.items():
        found = dataset[name].dims
        _require(set(found) == set(dims) and dataset[name].size > 0, name, found)
    for name, found in dataset.data_vars.items():
        _require(isinstance(found.attrs.get("unit", ""), str), f"unit of {name}", found.attrs.get("unit"))
        _require(_is_range(found.attrs.get("range", "[0, 1]")), f"range of {name}", found.attrs.get("range"))
    _require(dataset["step"].dtype.kind == dataset["tokens_elapsed"].dtype.kind == "i", "step", dataset["step"].dtype)
    _require(dataset["head_type"].dtype.kind in "UO", "head_type", dataset["head_type"].dtype)
    if joint is not None:
        _require({"kind", "group"} <= set(joint.dims) and "share_removed" in joint, "joint_ablation", list(joint))


def _is_range(told: Any) -> bool:
    """Whether it is two numbers as figures read them."""
    ends = parse_json(told, "a range of the table", finite=False) if isinstance(told, str) else None
    return isinstance(ends, list) and [type(end) in (int, float) for end in ends] == [True, True]


def _is_phase_change(change: PhaseChange) -> bool:
    """Whether its fields are of the types that it declares."""
    places = (change.start, change.end, change.start_index, change.end_index)
    numbers = all(type(place) in (int, float) for place in places) if change.found else places == (None,) * 4
    told = isinstance(change.found, bool) and isinstance(change.reason, str) and isinstance(change.share, float | int)
    return numbers and told


def _require(sound: bool, name: str, found: object) -> None:
    if not sound:
        raise ValueError(f"its {name} is {shown(found)}")
