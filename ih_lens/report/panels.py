"""A row of the table as a figure, from the data sets of a series."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.opaque_heads import opaque_heads
from ih_lens.report.model_data import description_of, phase_change_of, values_of
from ih_lens.report.rows import Drawing, Row


def row_figure(row: Row, models: Mapping[str, xr.Dataset]) -> go.Figure:
    """The figure of a row: a panel per model, axes shared, phase changes marked.

    Training is drawn on a logarithmic axis if the snapshots of any of the models are exponential.
    """
    changes = {name: phase_change_of(dataset) for name, dataset in models.items()}
    drawing = Drawing(
        values={name: values_of(dataset, row.name) for name, dataset in models.items()},
        head_types={name: dataset["head_type"] for name, dataset in models.items()},
        phase_changes={
            name: None if change.start is None or change.end is None else (float(change.start), float(change.end))
            for name, change in changes.items()
        },
        opaque={name: opaque_heads(dataset["prefix_matching"]) for name, dataset in models.items()},
        log_tokens=any(description_of(dataset)["exponential"] for dataset in models.values()),
    )
    return row.draw(drawing)
