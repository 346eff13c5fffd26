"""All numbers of one model as one labelled data set, and the ways to find them in it again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import xarray as xr

from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.reading import parse_json
from ih_lens.report.measured import MeasuredModel
from ih_lens.report.rows import NotMeasured

_JOINT = "joint_ablation_"


def model_dataset(
    model: MeasuredModel, values: Mapping[str, xr.DataArray | NotMeasured], joint: xr.Dataset | None
) -> xr.Dataset:
    """Put together what was measured and what each row made of it.

    Args:
        model: the measured model.
        values: per row its values or the reason why there are none; a coordinate `stderr` becomes the variable
            `<row>_stderr`.
        joint: result of `joint_ablation`; its variables get the prefix `joint_ablation_`.

    Returns:
        Variables: the rows by name, every head evaluator, `head_type`, and the views of the losses `random_token` and
        `at_indices` from which paired comparisons can be made. Attributes: `model`, `phase_change`, `not_measured`
        and `joint_ablation` as JSON.
    """
    views = model.losses.dataset[["random_token", "at_indices"]]
    parts: dict[str, xr.DataArray] = {str(name): view for name, view in views.data_vars.items()}
    parts |= {str(name): scores for name, scores in model.head_scores.dataset.data_vars.items()}
    parts["head_type"] = model.head_types
    for name, value in values.items():
        if isinstance(value, xr.DataArray):
            parts[name] = value.drop_vars("stderr", errors="ignore")
            if "stderr" in value.coords:
                parts[f"{name}_stderr"] = value["stderr"].drop_vars("stderr")
    for name, value in {} if joint is None else joint.data_vars.items():
        parts[f"{_JOINT}{name}"] = value
    datasets = [part.rename(name).to_dataset() for name, part in parts.items()]
    merged = xr.merge(datasets, join="exact", compat="equals", combine_attrs="drop_conflicts")
    not_measured = {name: value.reason for name, value in values.items() if isinstance(value, NotMeasured)}
    records = {
        "model": model.description,
        "phase_change": asdict(model.phase_change),
        "not_measured": not_measured,
        "joint_ablation": None if joint is None else joint.attrs,
    }
    return merged.assign_attrs({name: json.dumps(record) for name, record in records.items()})


def description_of(dataset: xr.Dataset) -> dict[str, Any]:
    """What the model is: layers, heads, seed, ..."""
    return parse_json(dataset.attrs["model"], "a model of the table")


def phase_change_of(dataset: xr.Dataset) -> PhaseChange:
    """The model's phase change, in tokens elapsed."""
    return PhaseChange(**parse_json(dataset.attrs["phase_change"], "a phase change of the table", finite=False))


def reasons_of(dataset: xr.Dataset) -> dict[str, str]:
    """Why rows have no values for this model, by the row's name."""
    return parse_json(dataset.attrs["not_measured"], "what the table lacks")


def joint_ablation_of(dataset: xr.Dataset) -> xr.Dataset | None:
    """What `joint_ablation` returned; None where there was no induction head or nothing was ablated."""
    attributes = parse_json(dataset.attrs["joint_ablation"], "an ablation of the table", finite=False)
    if attributes is None:
        return None
    names = [str(name) for name in dataset.data_vars if str(name).startswith(_JOINT)]
    joint = dataset[names].rename({name: name.removeprefix(_JOINT) for name in names})
    return joint.drop_dims([dim for dim in joint.dims if dim not in ("kind", "group")]).assign_attrs(attributes)


def values_of(dataset: xr.Dataset, name: str) -> xr.DataArray | None:
    """A row or another measure, with its standard error as the coordinate `stderr` where there is one."""
    if name not in dataset.data_vars:
        return None
    values = dataset[name]
    error = f"{name}_stderr"
    return values.assign_coords(stderr=dataset[error].variable) if error in dataset.data_vars else values
