"""Slopes of noisy curves on unevenly spaced points."""

import math

import numpy as np
from jaxtyping import Float

from ih_lens.errors import InputError


def local_slopes(
    values: Float[np.ndarray, "*leading point"], places: Float[np.ndarray, "point"], span: int | float
) -> Float[np.ndarray, "*leading point"]:
    """The slope of each curve at each of its points.

    Args:
        values: curves, in double precision.
        places: where their points lie, ascending.
        span: 0 for the second-order central difference on the uneven grid (one-sided at the ends); above 0 the slope
            of the least-squares line through all points within this distance, the neighbours always included.

    Raises:
        InputError: if there are fewer than two points, they do not ascend, or the span is negative.
    """
    if len(places) < 2 or (np.diff(places) <= 0).any():
        raise InputError(f"expected at least two ascending points to take slopes between, got {places.tolist()}")
    if not 0 <= span < math.inf:
        raise InputError(f"span: expected a distance of at least 0, got {span}")
    if span == 0:
        return np.gradient(values, places, axis=-1)
    gaps = np.diff(places)
    reach = np.maximum(span, np.maximum(np.append(gaps, 0), np.append(0, gaps)))
    near = np.abs(places - places[:, None]) <= reach[:, None] * (1 + 1e-12)
    centre = (near @ places) / near.sum(axis=1)
    offsets = near * (places - centre[:, None])
    weights = offsets / (offsets**2).sum(axis=1, keepdims=True)
    return values @ weights.T
