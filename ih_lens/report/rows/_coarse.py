"""Heat maps thinned for drawing: what a screen cannot show need not be in the page."""

import numpy as np
import xarray as xr

from ih_lens.viz.heat_maps import MOST_ROWS

MAX_SNAPSHOTS = 100
NOTE = f"""
    A map of more than {MAX_SNAPSHOTS} snapshots or {MOST_ROWS} context indices is made coarser for drawing: that many
    snapshots are evenly chosen, the first and the last among them, and neighbouring context indices are averaged in
    rows of equal height on the logarithmic axis. The stored data set keeps all.
    """


def thinned(values: xr.DataArray | None) -> xr.DataArray | None:
    """At most `MAX_SNAPSHOTS` snapshots of a map [snapshot, context_index], of whose indices the figure makes rows."""
    n_snapshots = 0 if values is None else values.sizes["snapshot"]
    if values is None or n_snapshots <= MAX_SNAPSHOTS:
        return values
    return values.isel(snapshot=np.unique(np.linspace(0, n_snapshots - 1, MAX_SNAPSHOTS).round().astype(int)))
