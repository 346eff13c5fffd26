"""Comparing this installation's numbers with the reference numbers."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ih_lens.progress import with_progress
from ih_lens.reference_check.measures import MEASURES, MeasuredReference
from ih_lens.reference_check.models import REFERENCE_MODELS, reference_examples, reference_model
from ih_lens.validate import device_of, one_of

_FILE = "reference_numbers.json"
_PRECISIONS = {"float32": (torch.float32, 1.0), "float64": (torch.float64, 1e-6)}
"""By name the type of the weights, and what tolerances are multiplied with."""


def check_reference_numbers(*, device: str = "cpu", dtype: str = "float32", progress: bool = True) -> pd.DataFrame:
    """Whether this installation, on this machine, gives the reference numbers.

    Three small models, whose weights follow from their parameters' names by numpy's Philox, are measured with every
    measure, and what comes out is held against the same in float64 on the machine on which the reference was made.
    Random tokens and random indices must be the same; everything else must lie within the tolerance of its measure.

    Args:
        device: where the models run.
        dtype: of their weights: "float32", or "float64" with tolerances that are a millionth.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        A row for each model and measure: `model`, `measure`, `n_numbers` compared; `expected`, `got` and `difference`
        of the number that lies farthest off; `tolerance`; and whether it is `within`. A number that is undefined on
        one side only is infinitely far off.

    Raises:
        InputError: if `dtype` is another, or `device` is none that holds numbers.

    Examples:
        >>> bool(check_reference_numbers().within.all())
        True
    """
    device_of("device", device)
    weights_dtype, scale = _PRECISIONS[one_of("dtype", dtype, list(_PRECISIONS))]
    expected = _reference_numbers()
    lines: list[dict[str, Any]] = []
    for name in with_progress(list(REFERENCE_MODELS), "reference models", total=len(REFERENCE_MODELS), show=progress):
        found = numbers_of(name, device=device, dtype=weights_dtype)
        for measure, values in found.items():
            compared = _compare(np.array(expected[name][measure], dtype=np.float64), values)
            tolerance = MEASURES[measure].tolerance * scale * max(1.0, compared["largest"])
            lines.append(_line(name, measure, compared, tolerance))
    return pd.DataFrame(lines)


def numbers_of(name: str, *, device: str, dtype: torch.dtype) -> dict[str, NDArray[np.float64]]:
    """Every measure of one reference model."""
    measured = MeasuredReference(reference_model(name, device=device, dtype=dtype), reference_examples())
    return {measure: entry.of(measured) for measure, entry in MEASURES.items()}


def _reference_numbers() -> Mapping[str, Mapping[str, list[float | None]]]:
    text = files("ih_lens.reference_check").joinpath(_FILE).read_text(encoding="utf8")
    return json.loads(text)["numbers"]


def _compare(expected: NDArray[np.float64], got: NDArray[np.float64]) -> dict[str, Any]:
    """The pair of numbers that lie farthest apart."""
    if expected.shape != got.shape:
        return {"n": len(got), "expected": len(expected), "got": len(got), "difference": np.inf, "largest": 0.0}
    apart = np.abs(got - expected)
    apart = np.where(np.isnan(apart), np.inf, apart)
    apart[np.isnan(expected) & np.isnan(got)] = -1.0  # so that a number that is defined is shown
    worst = int(apart.argmax())
    largest = float(np.nanmax(np.abs(expected), initial=0.0))
    return {
        "n": len(got),
        "expected": float(expected[worst]),
        "got": float(got[worst]),
        "difference": max(0.0, float(apart[worst])),
        "largest": largest,
    }


def _line(model: str, measure: str, compared: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    return {
        "model": model,
        "measure": measure,
        "n_numbers": compared["n"],
        "expected": compared["expected"],
        "got": compared["got"],
        "difference": compared["difference"],
        "tolerance": tolerance,
        "within": compared["difference"] <= tolerance,
    }
