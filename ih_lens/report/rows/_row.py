"""What a row of the table is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import plotly.graph_objects as go
import xarray as xr

from ih_lens.report.measured import MeasuredModel


class NotMeasured(NamedTuple):
    """Why a model has no values in a row."""

    reason: str


RowValues: TypeAlias = xr.DataArray | NotMeasured
"""One model's values in a row."""


@dataclass(frozen=True)
class Drawing:
    """What a row draws from: the values of all models of a series, and what marks them.

    Attributes:
        values: per model, None where the row was not measured.
        head_types: per model, [layer, head].
        phase_changes: start and end of the phase change in tokens elapsed; None where none was found.
        log_tokens: whether training is drawn on a logarithmic axis.
        opaque: per model, the heads that are opaque where there are many, [layer, head].
    """

    values: Mapping[str, xr.DataArray | None]
    head_types: Mapping[str, xr.DataArray | None]
    phase_changes: Mapping[str, tuple[float, float] | None]
    log_tokens: bool
    opaque: Mapping[str, xr.DataArray | None] = field(default_factory=dict[str, xr.DataArray | None])

    @property
    def over_training(self) -> dict[str, Any]:
        """The arguments that every figure over training takes."""
        return {"phase_changes": self.phase_changes, "log_tokens": self.log_tokens}

    @property
    def of_heads(self) -> dict[str, Any]:
        """The arguments that every figure of heads over training takes."""
        return {**self.over_training, "opaque": self.opaque}


@dataclass(frozen=True)
class Row:
    """One row of the Model Analysis Table.

    Attributes:
        name: the key in `table[name]` and in the stored data set.
        title: heading.
        summary: one sentence beside the panels: what is shown, on which axes.
        definition: the exact reading, paragraphs separated by empty lines; `{early}`, `{late}`, `{window}`,
            `{n_examples}`, `{ablation}` and `{replace}` stand for what the table used.
        source: where the paper defines it.
        needs: measurements it starts from, of `ih_lens.report.measuring.MEASUREMENTS`.
        values: from all models of the table to one result each, or the reason why there is none.
        draw: the figure of the whole row.
    """

    name: str
    title: str
    summary: str
    definition: str
    source: str
    needs: tuple[str, ...]
    values: Callable[[Sequence[MeasuredModel]], Sequence[RowValues]]
    draw: Callable[[Drawing], go.Figure]

    def paragraphs(self, numbers: Mapping[str, Any]) -> list[str]:
        """The definition, with the numbers that a table used filled in."""
        blocks = re.split(r"\n\s*\n", self.definition.format_map(numbers))
        return [" ".join(block.split()) for block in blocks if block.strip()]


def each(values: Callable[[MeasuredModel], RowValues]) -> Callable[[Sequence[MeasuredModel]], Sequence[RowValues]]:
    """The `values` of a row that looks at one model at a time."""
    return lambda models: [values(model) for model in models]
