"""What a stored measurement must look like: a file with the right name and checksum may still hold anything."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ih_lens.reading import shown

_READ_BY_FIGURES = ("range", "unit")
"""Attributes of a variable that views take apart."""


@dataclass(frozen=True)
class Numbers:
    """One variable of a measurement: floating-point numbers.

    Attributes:
        dims: its dimensions, in order.
        finite: whether NaN and infinity were refused when it was measured.
        attrs: its range and unit, as they are stored.
    """

    dims: tuple[str, ...]
    finite: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Form:
    """What one measurement of one snapshot holds.

    Attributes:
        numbers: all of its variables.
        labels: all of its coordinates, each along one dimension, with their values; so the sizes are known too.
        attrs: attributes that it must have, such as the fingerprint of the examples.
    """

    numbers: Mapping[str, Numbers]
    labels: Mapping[str, tuple[str, npt.NDArray[Any]]]
    attrs: Mapping[str, Any]

    def require(self, dataset: xr.Dataset) -> None:
        """Hold a data set against it.

        Raises:
            ValueError: saying what was expected and what came.
        """
        _require("variables", sorted(self.numbers), sorted(map(str, dataset.data_vars)))
        _require("labels", sorted(self.labels), sorted(map(str, dataset.coords)))
        for name, (dim, values) in self.labels.items():
            found = dataset[name]
            _require(f"dimensions of {name}", (dim,), found.dims)
            if found.dtype.kind != values.dtype.kind or not np.array_equal(found.to_numpy(), values):
                _require(f"labels {name}", _described(values), _described(found.to_numpy()))
        for name, expected in self.numbers.items():
            _require_numbers(name, dataset[name], expected)
        attributes = (dataset.attrs, *(dataset[name].attrs for name in dataset.variables))
        _require("attributes that are no text and no number", [], _odd(attributes))
        for name, value in self.attrs.items():
            _require(name, value, dataset.attrs.get(name))


def labels_of(**labels: tuple[str, Sequence[Any] | npt.NDArray[Any]]) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Labels by name, each a dimension and values, as arrays."""
    return {name: (dim, np.asarray(values)) for name, (dim, values) in labels.items()}


def _described(values: npt.NDArray[Any]) -> str:
    return f"{values.dtype} {values.tolist()}"


def _require_numbers(name: str, found: xr.DataArray, expected: Numbers) -> None:
    _require(f"dimensions of {name}", expected.dims, found.dims)
    if found.dtype.kind != "f":
        _require(f"type of {name}", "floating-point numbers", str(found.dtype))
    if expected.finite and not np.isfinite(found.to_numpy()).all():
        _require(f"numbers {name}", "finite ones", "NaN or infinity")
    told = {attribute: found.attrs[attribute] for attribute in _READ_BY_FIGURES if attribute in found.attrs}
    _require(f"attributes of {name}", dict(expected.attrs), told)


def _odd(attributes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of attributes that are neither text nor number."""
    return [name for part in attributes for name, value in part.items() if not isinstance(value, str | int | float)]


def _require(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise ValueError(f"its {what}: expected {shown(expected)}, got {shown(found)}")
