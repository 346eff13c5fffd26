"""Spread of results: over examples, and from snapshot to snapshot."""

import numpy as np
import xarray as xr
from jaxtyping import Float

_TO_DEVIATION = 1.4826 / 6**0.5
"""From the median magnitude of second differences to the standard deviation of what they were taken of, if normal."""


def standard_error_over_examples(values: xr.DataArray) -> xr.DataArray:
    """Of the mean over the dimension `example`, in the unit of the values; NaN for a single example.

    Examples:
        >>> standard_error_over_examples(losses.random_token).dims
        ('snapshot',)
    """
    n_examples = values.sizes["example"]
    if n_examples < 2:
        return xr.full_like(values.isel(example=0, drop=True), np.nan)
    return values.std("example", ddof=1, skipna=False) / np.sqrt(n_examples)


def scatter(values: Float[np.ndarray, "snapshot"]) -> float:
    """Standard deviation of independent noise in a curve, from second differences, which a trend hardly moves.

    It is their median magnitude, which neither a step nor a spike moves, as the deviation of a normal distribution;
    at least three values are needed.

    Examples:
        >>> scatter(np.array([3.0, 2.0, 1.0, 0.0]))
        0.0
    """
    return float(np.median(np.abs(np.diff(values, 2)))) * _TO_DEVIATION
