"""The pairs of heads that compose most."""

import numpy as np
import pandas as pd
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.types import HeadIndex
from ih_lens.validate import at_least

_DIMS = ("layer", "head", "earlier_layer", "earlier_head")


def above_baseline(scores: xr.DataArray) -> xr.DataArray:
    """Composition scores minus what random heads of the same widths score, [layer, head, earlier_layer, earlier_head].

    Raises:
        InputError: if these are no composition scores with their baseline.

    Examples:
        >>> above_baseline(composition_scores(model)).max().item()
        0.31
    """
    if set(scores.dims) != set(_DIMS) or not {"baseline_mean", "baseline_std"} <= set(scores.coords):
        raise InputError(
            f"expected composition scores [{', '.join(_DIMS)}] with baseline_mean and baseline_std, got "
            f"{list(scores.dims)}; take them from composition_scores, and choose a snapshot with .isel first"
        )
    ordered = scores.transpose(*_DIMS)
    return (ordered - ordered["baseline_mean"]).assign_attrs(scores.attrs)


def strongest_compositions(scores: xr.DataArray, k: int = 30) -> pd.DataFrame:
    """The pairs of heads with the highest composition scores.

    Args:
        scores: result of `composition_scores`.
        k: number of pairs; fewer are given where fewer are defined.

    Returns:
        One row per pair, best first: `head` and `earlier_head` (as `HeadIndex`), `score`, `above_baseline` (score minus
        the mean of random heads of the same widths) and `deviations` (the same in standard deviations of those).

    Raises:
        InputError: if these are no composition scores with their baseline.

    Examples:
        >>> strongest_compositions(composition_scores(model), k=1)
           head earlier_head  score  above_baseline  deviations
        0  L1H0         L0H0   0.52            0.44        84.8
    """
    above = above_baseline(scores).to_numpy()
    numbers = scores.transpose(*_DIMS).to_numpy()
    best = np.argsort(-numbers, axis=None, kind="stable")[: at_least("k", k, 1)]
    places = [np.unravel_index(place, numbers.shape) for place in best if np.isfinite(numbers.flat[place])]
    rows = [
        {
            "head": HeadIndex(int(place[0]), int(place[1])),
            "earlier_head": HeadIndex(int(place[2]), int(place[3])),
            "score": float(numbers[place]),
            "above_baseline": float(above[place]),
            "deviations": float(above[place]) / float(scores["baseline_std"]),
        }
        for place in places
    ]
    return pd.DataFrame(rows, columns=["head", "earlier_head", "score", "above_baseline", "deviations"])
