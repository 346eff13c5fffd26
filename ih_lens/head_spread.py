"""The spread of head scores over examples, as it is kept beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from ih_lens.estimates import ONE_EXAMPLE, Estimate, defined_examples
from ih_lens.statistics import standard_error

_DTYPES = ("float32", "float64", "float16", "int64", "int32", "bool")
WITHOUT_EXAMPLES = "read off the weights, without examples"


@dataclass(frozen=True)
class HeadSpread:
    """Standard errors of measures of heads, and what each example gave where that was kept.

    Attributes:
        stderr: one variable per measure, [..., layer, head]; its attributes say `n_examples`, or in `undefined` why
            there is no spread.
        examples: one variable per measure, [..., NAME_example, layer, head].
    """

    stderr: xr.Dataset
    examples: xr.Dataset

    @classmethod
    def from_tensors(
        cls,
        examples: Mapping[str, Float[Tensor, "_example layer head"] | str],
        n_layers: int,
        n_heads: int,
        *,
        keep_examples: bool,
    ) -> "HeadSpread":
        """From each example's own scores, or the reason why there are none, per measure."""
        errors: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        for name, found in examples.items():
            if isinstance(found, str):
                nothing = np.full((n_layers, n_heads), np.nan)
                errors[name] = (("layer", "head"), nothing, {"n_examples": 0, "undefined": found})
                continue
            dims = ("example", "layer", "head")
            values = defined_examples(xr.DataArray(found.detach().cpu().double().numpy(), dims=dims)).to_numpy()
            reason = {"undefined": ONE_EXAMPLE} if len(values) < 2 else {}
            errors[name] = (dims[1:], standard_error(values), {"n_examples": len(values), **reason})
            if keep_examples:
                kept[name] = ((f"{name}_example", *dims[1:]), values)
        return cls(xr.Dataset(errors), xr.Dataset(kept))

    @classmethod
    def stacked(cls, spreads: "Sequence[HeadSpread]") -> "HeadSpread":
        """Over snapshots; single examples are kept for measures of which every snapshot has the same number."""
        stderr = xr.concat([spread.stderr for spread in spreads], dim="snapshot", combine_attrs="drop_conflicts")
        alike = [
            name
            for name in spreads[0].examples.data_vars
            if len({spread.examples.sizes.get(f"{name}_example") for spread in spreads}) == 1
        ]
        return cls(stderr, xr.concat([spread.examples[alike] for spread in spreads], dim="snapshot"))

    def joined(self, other: "HeadSpread", names: Sequence[str]) -> "HeadSpread":
        """With some measures of the same heads beside it."""
        kept = [name for name in names if name in other.examples.data_vars]
        stderr = self.stderr.assign({name: other.stderr[name] for name in names})
        return HeadSpread(stderr, self.examples.assign({name: other.examples[name] for name in kept}))

    def estimate(self, scores: xr.DataArray) -> Estimate:
        """The scores of one measure with their spread."""
        name = str(scores.name)
        about = self.stderr[name].attrs
        errors = self.stderr[name].transpose(*scores.dims).to_numpy()
        stderr = xr.DataArray(errors, scores.coords, scores.dims, "stderr", about)
        examples = None
        if name in self.examples.data_vars:
            examples = self.examples[name].rename({f"{name}_example": "example"}).transpose("example", *scores.dims)
        return Estimate(scores, stderr, int(about.get("n_examples", 0)), examples, about.get("undefined"))

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"stderr": dataset_to_dict(self.stderr), "examples": dataset_to_dict(self.examples)}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> "HeadSpread":
        """What `to_dict` gave."""
        return cls(dataset_from_dict(written["stderr"]), dataset_from_dict(written["examples"]))


def dataset_to_dict(dataset: xr.Dataset) -> dict[str, Any]:
    """A data set with the types of its numbers, for JSON."""
    labelled = dataset.to_dict()
    for name, variable in labelled["data_vars"].items():
        variable["dtype"] = str(dataset[name].dtype)
    return labelled


def dataset_from_dict(written: Mapping[str, Any]) -> xr.Dataset:
    """What `dataset_to_dict` gave, after JSON.

    Raises:
        ValueError: if it is anything else; so do KeyError, TypeError and AttributeError.
    """
    variables: dict[str, Any] = {}
    for name, variable in written["data_vars"].items():
        if variable["dtype"] not in _DTYPES:
            raise ValueError(f"{name!r} is of the type {variable['dtype']!r:.40}")
        values = np.array(variable["data"], dtype=variable["dtype"])
        variables[name] = (variable["dims"], values, variable["attrs"])
    coordinates = {
        name: (coordinate["dims"], np.array(coordinate["data"]), coordinate["attrs"])
        for name, coordinate in written["coords"].items()
    }
    if any(labels.dtype.kind not in "iufbU" for _, labels, _ in coordinates.values()):
        raise ValueError("its coordinates are neither numbers nor texts")
    return xr.Dataset(variables, coordinates, written["attrs"])


def are_of_heads(scores: xr.Dataset, spread: HeadSpread | None) -> bool:
    """Whether every measure, and every spread, is one number per head, or per snapshot and head."""
    parts = [scores] if spread is None else [scores, spread.stderr]
    found = [values for part in parts for values in part.data_vars.values()]
    same_dims = {values.dims for values in found} in ({("layer", "head")}, {("snapshot", "layer", "head")})
    complete = spread is None or set(scores.data_vars) <= set(spread.stderr.data_vars)
    return same_dims and complete and len({values.shape for values in found}) == 1
