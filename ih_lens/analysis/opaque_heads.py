"""Which heads of a large model stand out in a figure that shows all of them."""

import numpy as np
import xarray as xr

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.validate import at_least, proportion


def opaque_heads(
    scores: xr.DataArray, *, more_than: int = 100, n_opaque: int = 100, share_best: float = 0.5, seed: int = 0
) -> xr.DataArray:
    """The heads that are drawn opaque; all others of a model with many heads are drawn translucent.

    The paper shows, of models with more than 100 heads, a random sample of 100 that favours high prefix matching, and
    does not say how it was drawn. Here the best heads make up a part of the sample, and the rest of it is drawn from
    the other heads with equal chances; so no high score is overlooked, and the usual head is seen as well.

    Args:
        scores: what the best heads are best at, usually prefix matching: [layer, head], or over snapshots, of which
            the last one counts. Heads without a score (NaN) are not opaque.
        more_than: models with so many heads or fewer have all of them opaque, whatever their scores.
        n_opaque: size of the sample.
        share_best: part of the sample that the best heads make up, 0 to 1.
        seed: of the rest.

    Returns:
        [layer, head] of bool.

    Raises:
        InputError: if the scores are not those of heads, or an argument lies outside its range.

    Examples:
        >>> int(opaque_heads(scores["prefix_matching"]).sum())
        100
    """
    at_least("more_than", more_than, 0)
    at_least("n_opaque", n_opaque, 0)
    proportion("share_best", share_best)
    grid = last_snapshot(scores)
    numbers = grid.to_numpy().ravel()
    chosen = np.full(numbers.shape, grid.size <= more_than)
    if grid.size > more_than:
        ranked = np.argsort(-numbers, kind="stable")[: int(np.isfinite(numbers).sum())]  # NaN sorts to the end
        n_best = round(share_best * n_opaque)
        chosen[ranked[:n_best]] = True
        chosen[np.random.default_rng(seed).permutation(ranked[n_best:])[: n_opaque - n_best]] = True
    coordinates = {dim: grid[dim] for dim in ("layer", "head")}
    attributes = {"more_than": more_than, "n_opaque": n_opaque, "share_best": share_best, "seed": seed}
    return xr.DataArray(chosen.reshape(grid.shape), coordinates, ("layer", "head"), "opaque", attributes)
