"""Which heads a figure draws opaque: the paper's rule for models with more than 100 heads, or what the caller says."""

from collections.abc import Iterable
from typing import TypeAlias

import xarray as xr

from ih_lens.analysis.opaque_heads import opaque_heads
from ih_lens.viz.grid import Results

Opaque: TypeAlias = bool | Results
"""True: by `opaque_heads` from what is drawn; False: all heads; or [layer, head] of bool per model."""

TRANSLUCENT = "Of models with more heads than can be told apart, a sample is opaque; hovering names all."


def chosen_opaque(opaque: Opaque, name: str, values: xr.DataArray) -> xr.DataArray | None:
    """The heads of one model that are opaque, None for all.

    Args:
        opaque: as the figures take it; models that a mapping does not name have all heads opaque.
        name: of the model.
        values: the measure that is drawn, of which the rule takes the magnitude where it has a choice to make.
    """
    if opaque is True:
        return opaque_heads(abs(values))
    return None if opaque is False else opaque.get(name)


def some_translucent(samples: Iterable[xr.DataArray | None]) -> bool:
    """Whether any model has heads that are not opaque."""
    return any(sample is not None and not bool(sample.all()) for sample in samples)
