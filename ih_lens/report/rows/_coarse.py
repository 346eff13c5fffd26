"""Heat maps thinned for drawing: what a screen cannot show need not be in the page."""

import numpy as np
import xarray as xr

MAX_SNAPSHOTS = 100
MAX_INDICES = 128
NOTE = f"""
    A map of more than {MAX_SNAPSHOTS} snapshots or {MAX_INDICES} context indices is thinned for drawing: that many
    snapshots, evenly chosen, and context indices, evenly chosen on the logarithmic axis; the first and the last stay.
    The stored data set keeps all.
    """


def thinned(values: xr.DataArray | None) -> xr.DataArray | None:
    """At most `MAX_SNAPSHOTS` x `MAX_INDICES` cells of a map [snapshot, context_index]."""
    if values is None:
        return None
    n_snapshots, n_indices = values.sizes["snapshot"], values.sizes["context_index"]
    if n_snapshots > MAX_SNAPSHOTS:
        values = values.isel(snapshot=np.unique(np.linspace(0, n_snapshots - 1, MAX_SNAPSHOTS).round().astype(int)))
    if n_indices > MAX_INDICES:
        values = values.isel(context_index=np.unique(np.geomspace(1, n_indices, MAX_INDICES).round().astype(int)) - 1)
    return values
