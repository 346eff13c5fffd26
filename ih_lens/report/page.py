"""The table as one self-contained page: figures drawn by an inlined plotly.js, everything else plain HTML."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import plotly.graph_objects as go
import xarray as xr
from plotly.offline import get_plotlyjs

from ih_lens.report.model_data import reasons_of
from ih_lens.report.panels import row_figure
from ih_lens.report.rows import Row
from ih_lens.report.summary import SUMMARY_LINES, architecture_lines

_TOP_MARGIN = 26


class Columns(NamedTuple):
    """Where the panels of a figure lie, in pixels, so that what stands above them can stand in the same columns."""

    left: float
    width: float
    gap: float
    right: float


def table_page(
    datasets: Mapping[str, xr.Dataset], record: Mapping[str, Any], *, title: str, rows: Sequence[Row]
) -> str:
    """The page of a table; every text from outside is escaped.

    Args:
        datasets: per model its numbers.
        record: series and provenance.
        title: heading.
        rows: what to show.
    """
    numbers = _numbers_used(record)
    sections = [
        _series(place, heading, {name: datasets[name] for name in names}, rows, numbers)
        for place, (heading, names) in enumerate(record["series"].items())
    ]
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        style=_asset("page.css"),
        plotly=get_plotlyjs(),
        script=_asset("page.js"),
        examples=escape("{n_examples} examples of {n_pos} tokens".format(**numbers)),
        indices=escape("{late} and {early}".format(**numbers)),
        contents="".join(
            f'<a href="#series-{place}">{escape(name)}</a>' for place, name in enumerate(record["series"])
        ),
        series="".join(sections),
        provenance=_provenance(record),
    )


def _asset(name: str) -> str:
    return files("ih_lens.report").joinpath("assets", name).read_text(encoding="utf8")


def _numbers_used(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the definitions of rows quote."""
    settings = record["settings"]
    kinds = {"ablation": settings["ablation"].replace("_", "-"), "replace": settings["replace"]}
    return {**record["scoring"], **record["examples"], **kinds}


def _series(
    place: int, heading: str, models: Mapping[str, xr.Dataset], rows: Sequence[Row], numbers: Mapping[str, Any]
) -> str:
    """One table: header, summaries, and the rows below each other."""
    figures = [row_figure(row, models) for row in rows]
    columns = _columns(figures[0], len(models))
    style = (
        f"--left:{columns.left:.1f}px;--panel:{columns.width:.2f}px;--gap:{columns.gap:.2f}px;"
        f"--right:{columns.right:.1f}px;--n:{len(models)}"
    )
    header = "".join(_model_header(name, dataset) for name, dataset in models.items())
    summaries = "".join(_model_summary(dataset) for dataset in models.values())
    body = "".join(_row(*pair, models, numbers) for pair in zip(rows, figures, strict=True))
    return (
        f'<section class="series" id="series-{place}" style="{style}"><h2>{escape(heading)}</h2>'
        f'<div class="table"><div class="columns header"><div class="label">Model</div>{header}</div>'
        f'<div class="columns summary"><div class="label">Summary</div>{summaries}</div>{body}</div></section>'
    )


def _model_header(name: str, dataset: xr.Dataset) -> str:
    lines = "".join(f"<span>{escape(line)}</span>" for line in architecture_lines(dataset))
    return f'<div class="model"><strong>{escape(name)}</strong>{lines}</div>'


def _model_summary(dataset: xr.Dataset) -> str:
    entries = "".join(
        f"<dt>{escape(heading)}</dt><dd>{escape(text(dataset))}</dd>" for heading, text in SUMMARY_LINES.items()
    )
    return f"<dl>{entries}</dl>"


def _row(row: Row, figure: go.Figure, models: Mapping[str, xr.Dataset], numbers: Mapping[str, Any]) -> str:
    """Label and definition at the left, the figure at the right, below it why panels are empty."""
    notes = "".join(f'<p class="missing">{escape(note)}.</p>' for note in _missing(row.name, models))
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in row.paragraphs(numbers))
    return (
        f'<div class="row" data-row="{escape(row.name)}"><div class="label"><h3>{escape(row.title)}</h3>'
        f"<p>{escape(row.summary.format_map(numbers))}</p><details><summary>Definition</summary>"
        f'<div class="definition"><h3>{escape(row.title)}</h3>{paragraphs}<p class="source">Olsson et al. 2022, '
        f"{escape(row.source)}</p></div></details></div><div>{_figure(figure, len(models))}{notes}</div></div>"
    )


def _missing(row: str, models: Mapping[str, xr.Dataset]) -> list[str]:
    """Which models have no values in a row, and why."""
    names: dict[str, list[str]] = {}
    for name, dataset in models.items():
        reason = reasons_of(dataset).get(row) or ("" if row in dataset else "because this row was not asked for")
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(members)}: not measured, {reason}" for reason, members in names.items() if reason]


def _figure(figure: go.Figure, n_models: int) -> str:
    """The figure as JSON beside the place where it is drawn; headings stand in the table's own header."""
    layout: Any = figure.layout
    layout.annotations = layout.annotations[n_models:]
    height = layout.height - layout.margin.t + _TOP_MARGIN
    figure.update_layout(title=None, height=height, margin={"t": _TOP_MARGIN})
    drawn = str(figure.to_json()).replace("<", "\\u003c")
    size = f"width:{layout.width}px;height:{height}px"
    return f'<div class="figure" style="{size}"></div><script type="application/json">{drawn}</script>'


def _columns(figure: go.Figure, n_models: int) -> Columns:
    """Read from the figure's axes."""
    layout: Any = figure.layout
    margin = layout.margin
    width = layout.width - margin.l - margin.r
    axes: list[Any] = list(figure.select_xaxes())
    domains = [axis.domain for axis in axes]
    gap = (domains[1][0] - domains[0][1]) * width if n_models > 1 else 0.0
    return Columns(margin.l, (domains[0][1] - domains[0][0]) * width, gap, margin.r)


def _provenance(record: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in _flat("", record))
    return f"<table>{rows}</table>"


def _flat(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested records as dotted names with their values as JSON."""
    for name, value in record.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(f"{dotted}.", value)
        else:
            yield dotted, value if isinstance(value, str) else json.dumps(value)
