"""Where in their depth models have the heads with high scores."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.errors import InputError
from ih_lens.validate import at_least


def relative_depth(n_layers: int) -> Float[np.ndarray, "layer"]:
    """Depth of each layer: 0 for the first, 1 for the last; 0 for the layer of a one-layer model.

    Examples:
        >>> relative_depth(3)
        array([0. , 0.5, 1. ])
    """
    return np.arange(n_layers) / max(n_layers - 1, 1)


def score_by_depth(
    measures: Sequence[xr.DataArray], *, n_bins: int = 8, quantiles: Sequence[float] = (0.5, 0.9, 1.0)
) -> xr.DataArray:
    """Quantiles of a measure over the heads of some models, in bins of relative depth.

    Args:
        measures: one per model, [layer, head]; of stacked snapshots the last one counts. NaN is left out.
        n_bins: bins of equal width from depth 0 (first layer) to 1 (last layer).
        quantiles: 0 to 1; 1 is the maximum.

    Returns:
        [quantile, depth], the depth being the middle of its bin; NaN where a bin has no head. The coordinates
        `depth_from`, `depth_to` and `n_heads` say what each bin holds; a bin has its lower end, the last one both.

    Raises:
        InputError: if no measure is given, one is not of heads, or an argument lies outside its range.

    Examples:
        >>> score_by_depth([scores["prefix_matching"]]).sel(quantile=1.0).idxmax("depth").item()
        0.4375
    """
    at_least("n_bins", n_bins, 1)
    if not measures:
        raise InputError("measures: expected those of at least one model, got none")
    if not all(0 <= quantile <= 1 for quantile in quantiles) or not quantiles:
        raise InputError(f"quantiles: expected numbers from 0 to 1, at least one; got {list(quantiles)}")
    grids = [last_snapshot(values) for values in measures]
    depths = np.concatenate([np.repeat(relative_depth(grid.sizes["layer"]), grid.sizes["head"]) for grid in grids])
    numbers = np.concatenate([grid.to_numpy().ravel() for grid in grids]).astype(float)
    defined = np.isfinite(numbers)
    # a depth that is a bin's end, like 1/3 of 3 bins, must not fall below it by rounding
    bins = np.minimum(np.floor(depths * n_bins + 1e-9).astype(int), n_bins - 1)
    inside = [numbers[defined & (bins == place)] for place in range(n_bins)]
    columns = [np.quantile(heads, list(quantiles)) if heads.size else [np.nan] * len(quantiles) for heads in inside]
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    coordinates = {
        "quantile": list(quantiles),
        "depth": (edges[:-1] + edges[1:]) / 2,
        "depth_from": ("depth", edges[:-1]),
        "depth_to": ("depth", edges[1:]),
        "n_heads": ("depth", [heads.size for heads in inside]),
    }
    return xr.DataArray(np.array(columns).T, coordinates, ("quantile", "depth"), "score_by_depth")
