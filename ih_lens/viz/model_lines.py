"""Many models in one panel: what all figures with a line per model share."""

from collections.abc import Mapping
from typing import NamedTuple

import xarray as xr
from plotly.colors import sample_colorscale

from ih_lens.errors import InputError
from ih_lens.viz import style

WIDTH, HEIGHT = 620, 300
"""Of the area inside the axes, in pixels."""

_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "bowtie")


class ModelLook(NamedTuple):
    """How one model is drawn; neighbours differ in more than the colour."""

    colour: str
    dash: str
    symbol: str


def line_looks(names: list[str]) -> dict[str, ModelLook]:
    """One look per model, from light (the first) to dark (the last)."""
    places = [place / max(len(names) - 1, 1) for place in range(len(names))]
    return {
        name: ModelLook(
            str(sample_colorscale(style.DEPTH_SCALE, share)[0]),
            _DASHES[place % len(_DASHES)],
            _SYMBOLS[place % len(_SYMBOLS)],
        )
        for place, (name, share) in enumerate(zip(names, places, strict=True))
    }


def measured(results: Mapping[str, xr.DataArray | None], dim: str) -> dict[str, xr.DataArray]:
    """The models that were measured, each [dim].

    Raises:
        InputError: if there is none, or one has other dimensions.
    """
    known = {name: values for name, values in results.items() if values is not None}
    if not known:
        raise InputError("expected at least one model to draw, got none")
    for name, values in known.items():
        if values.dims != (dim,):
            raise InputError(
                f"{name}: expected one number per {dim}, got dimensions {values.dims}; choose the rest with .isel first"
            )
    return known
