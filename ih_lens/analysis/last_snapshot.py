"""Measures of heads at the end of training."""

import xarray as xr

from ih_lens.errors import InputError


def last_snapshot(values: xr.DataArray) -> xr.DataArray:
    """A measure of heads [layer, head]; of the last snapshot where snapshots were stacked.

    Raises:
        InputError: if the measure has other dimensions.

    Examples:
        >>> last_snapshot(scores["prefix_matching"]).dims
        ('layer', 'head')
    """
    last = values.isel(snapshot=-1) if "snapshot" in values.dims else values
    if set(last.dims) != {"layer", "head"}:
        raise InputError(f"expected a measure of heads [layer, head], be it over snapshots; got {list(values.dims)}")
    return last.transpose("layer", "head")
