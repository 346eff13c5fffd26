"""What kind of head each one is, by thresholds on its scores."""

import numpy as np
import xarray as xr

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.results import HeadScores
from ih_lens.validate import proportion

HEAD_TYPES = ("induction", "anti_copying_prefix_matching", "previous_token", "other")
"""The types, in the order in which they are tried: the first that fits is the head's type."""


def head_types(
    scores: HeadScores, *, prefix_matching: float = 0.3, previous_token: float = 0.3, copying: float = 0.0
) -> xr.DataArray:
    """The type of each head, from the last snapshot where snapshots were stacked.

    A head is "induction" if its prefix matching reaches the threshold and its copying score lies above `copying`;
    "anti_copying_prefix_matching" if its prefix matching reaches the threshold and its copying score lies below
    `-copying`; else "previous_token" if its previous-token score reaches the threshold; else "other". A head that
    fits several is what comes first in this list. An undefined score (NaN) reaches no threshold.

    Args:
        scores: with the measures prefix_matching, copying and previous_token.
        prefix_matching: threshold, 0 to 1.
        previous_token: threshold, 0 to 1.
        copying: magnitude that a copying score must exceed, 0 to 1. The paper's translation head has 0.20, so heads
            that matter copy weakly.

    Returns:
        [layer, head] of text.

    Raises:
        InputError: if a measure is missing or a threshold lies outside 0 to 1.

    Examples:
        >>> head_types(score_heads(model)).sel(layer=1, head=4).item()
        'induction'
    """
    thresholds = {"prefix_matching": prefix_matching, "previous_token": previous_token, "copying": copying}
    for name, value in thresholds.items():
        proportion(name, value)
    matches = last_snapshot(scores["prefix_matching"]) >= prefix_matching
    copies = last_snapshot(scores["copying"])
    before = last_snapshot(scores["previous_token"]) >= previous_token
    conditions = [matches & (copies > copying), matches & (copies < -copying), before]
    names = np.select([condition.to_numpy() for condition in conditions], list(HEAD_TYPES[:-1]), HEAD_TYPES[-1])
    coordinates = {dim: matches[dim] for dim in ("layer", "head")}
    attributes = {**scores.attrs, **{f"{name}_threshold": value for name, value in thresholds.items()}}
    return xr.DataArray(names, coordinates, ("layer", "head"), "head_type", attributes)
