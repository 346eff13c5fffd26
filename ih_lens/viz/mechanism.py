"""What makes a head an induction head: terms of its match, pairs of them, and what is lost without each head."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from ih_lens.analysis.head_partners import match_shares
from ih_lens.errors import InputError
from ih_lens.validate import at_least
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.plotly_text import literal

_BAR, _SMALLEST = 20, 150
"""Pixels per bar, and of a panel with few of them."""
_PANEL, _GAP, _CELL = 230, 150, 46
"""Widths of a panel, between panels (where names stand), and of a cell."""
_NAMED_CELLS = 0.01
"""Cells have their number written in them from this share of the largest one on."""
_SIDES = {"k": "keys", "q": "queries", "v": "values (what it copies)"}
_KINDS = ("K-composition", "Q-composition", "V-composition")


def plot_match_terms(terms: xr.Dataset, *, k: int = 10, title: str | None = None) -> go.Figure:
    """What a head's match is made of, by terms of its keys and queries, and what it copies, by terms of its values.

    Args:
        terms: result of `match_terms`.
        k: the largest terms (by magnitude) of each side; the others are one bar together.
        title: heading; the head's name by default.

    Raises:
        InputError: if these are no terms of a match.

    Examples:
        >>> plot_match_terms(match_terms(model, "L1H4"))
    """
    at_least("k", k, 1)
    shares: Any = match_shares(terms)
    sides = [side for side in _SIDES if shares.loc[shares["side"] == side, "contribution"].notnull().any()]
    tables = [_largest(shares[shares["side"] == side], k) for side in sides]
    figure = _panels([_SIDES[side] for side in sides])
    for column, (side, table) in enumerate(zip(sides, tables, strict=True), start=1):
        figure.add_trace(_bars(table), row=1, col=column)
        figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True, col=column)
        unit = "copied logit (logits)" if side == "v" else "score (no unit)"
        figure.update_xaxes(title=unit, zeroline=True, zerolinecolor=style.GREY, col=column)
    figure.update_yaxes(title="term (and its share of the whole)", title_standoff=10, row=1, col=1)
    heading = title or f"{terms.attrs['head']}: what its match is made of"
    remark = "Exact terms of the score at the targets less elsewhere (keys, queries), and of the copied logit (values)."
    _frame_panels(figure, heading, max(map(len, tables)), [remark])
    figure.update_layout(showlegend=False)
    return figure


def plot_score_terms(terms: xr.Dataset, *, k: int = 8, title: str | None = None) -> go.Figure:
    """Which terms of a head's queries match which terms of its keys: a cell per pair, in units of the score.

    Args:
        terms: result of `match_terms`.
        k: the largest terms of each side; the others are one row and one column together.
        title: heading; the head's name by default.

    Raises:
        InputError: if these are no terms of a match.

    Examples:
        >>> plot_score_terms(match_terms(model, "L1H4"))
    """
    at_least("k", k, 1)
    if "pairs" not in terms.data_vars:
        raise InputError(f"terms: expected the result of match_terms, got {list(terms.data_vars)}")
    pairs = terms["pairs"].transpose("query_term", "key_term")
    queries, keys = (_ranked(pairs, side, k) for side in ("query_term", "key_term"))
    numbers = _gathered(_gathered(pairs.to_numpy(), queries[1], 0), keys[1], 1)
    end = float(np.abs(numbers).max()) or 1.0
    matrix = go.Heatmap(
        x=keys[0],
        y=queries[0],
        z=numbers,
        colorscale=style.DERIVATIVE_SCALE,
        zmin=-end,
        zmax=end,
        xgap=1,
        ygap=1,
        text=np.where(np.abs(numbers) >= _NAMED_CELLS * end, np.vectorize("{:.2g}".format)(numbers), ""),
        texttemplate="%{text}",
        textfont={"size": 10},
        colorbar=style.colour_bar("score at targets less<br>elsewhere (no unit)"),
        hovertemplate="query: %{y}<br>key: %{x}<br>%{z:.4f}<extra></extra>",
    )
    figure = go.Figure(matrix)
    figure.update_xaxes(
        title="term of the key (part of the model)", type="category", showgrid=False, tickangle=-45, automargin=True
    )
    figure.update_yaxes(
        title="term of the query (part of the model)",
        type="category",
        showgrid=False,
        autorange="reversed",
        automargin=True,
        title_standoff=10,
    )
    heading = title or f"{terms.attrs['head']}: match by pairs of terms"
    width, height = (max(_SMALLEST, _CELL * len(names)) for names in (keys[0], queries[0]))
    frame(figure, heading, width=width, height=height)
    return figure


def plot_head_partners(
    partners: pd.DataFrame, *, k: int = 8, title: str = "What it loses without each head"
) -> go.Figure:
    """What a head loses when an earlier head is taken out of its keys, queries or values alone; controls in grey.

    Args:
        partners: result of `head_partners`, such as `explain_head(model, "L1H4").partners`.
        k: the sources that matter most, for each kind of composition.
        title: heading.

    Raises:
        InputError: if these are no partners.

    Examples:
        >>> explanation = explain_head(model, "L1H4")
        >>> plot_head_partners(explanation.partners, title=str(explanation.head))
    """
    at_least("k", k, 1)
    if not {"kind", "source", "lost", "stderr", "control"} <= set(partners.columns) or not len(partners):
        raise InputError(
            "partners: expected rows of head_partners with shares that are lost; heads of layer 0 have none"
        )
    everything: Any = partners
    kinds = [kind for kind in _KINDS if everything.loc[partners["kind"] == kind, "lost"].notna().any()]
    figure = _panels(kinds)
    longest = 0
    for column, kind in enumerate(kinds, start=1):
        rows = everything[everything["kind"] == kind].dropna(subset=["lost"])
        rows = rows.reindex(rows["lost"].abs().sort_values(ascending=False, kind="stable").index).head(k)
        longest = max(longest, len(rows))
        figure.add_traces(_lost(rows, first=column == 1), rows=1, cols=column)
        figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True, col=column)
        measure = "copied logit" if kind == "V-composition" else "prefix matching"
        figure.update_xaxes(title=f"{measure} lost (%)", ticksuffix=" %", zeroline=True, col=column)
        figure.update_xaxes(zerolinecolor=style.GREY, col=column)
    figure.update_yaxes(title="taken out (head)", title_standoff=10, row=1, col=1)
    _frame_panels(figure, title, longest, [])
    return figure


def _panels(names: list[str]) -> go.Figure:
    """Panels side by side, with room for names of bars between them."""
    width = _PANEL * len(names) + _GAP * (len(names) - 1)
    figure = make_subplots(1, len(names), subplot_titles=names, horizontal_spacing=_GAP / width if names else 0)
    figure.update_annotations(font={"size": 12})
    return figure


def _frame_panels(figure: go.Figure, title: str, n_bars: int, remarks: list[str]) -> None:
    n_panels = len(list(figure.select_xaxes()))
    width, height = _PANEL * n_panels + _GAP * (n_panels - 1), max(_SMALLEST, _BAR * n_bars)
    frame(figure, title, width=width, height=height, more_top=14, remarks=remarks)
    figure.update_layout(margin_l=_GAP + 20, width=width + _GAP + 20 + style.RIGHT)


def _bars(table: pd.DataFrame) -> go.Bar:
    """Contributions with their standard errors; shares stand beside the names."""
    rows: list[Any] = list(table.itertuples())
    return go.Bar(
        x=table["contribution"],
        y=[literal(row.term) + ("" if np.isnan(row.share) else f" ({round(100 * row.share)} %)") for row in rows],
        orientation="h",
        marker={"color": style.LINE},
        error_x={"array": table["stderr"].fillna(0.0), "thickness": 1.2, "width": 3, "color": style.GREY},
        customdata=table[["stderr", "share_stderr"]].to_numpy(),
        hovertemplate="%{y}: %{x:.3f} ± %{customdata[0]:.3f}<br>share ± %{customdata[1]:.3f}<extra></extra>",
    )


def _largest(table: Any, k: int) -> pd.DataFrame:
    """The terms of one side that matter most, in order, and the sum of the others."""
    order = table["contribution"].abs().sort_values(ascending=False, kind="stable").index
    kept, others = table.loc[order[:k]].sort_values("contribution", ascending=False), table.loc[order[k:]]
    if others.empty:
        return kept
    rest: dict[str, Any] = {"side": kept["side"].iloc[0], "term": f"{len(others)} others"}
    rest |= {name: others[name].sum(min_count=1) for name in ("contribution", "share")}
    return pd.concat([kept, pd.DataFrame([{**rest, "stderr": np.nan, "share_stderr": np.nan}])], ignore_index=True)


def _ranked(pairs: xr.DataArray, side: str, k: int) -> tuple[list[str], list[list[int]]]:
    """Names of one side's rows, and which terms each of them sums: the largest by themselves, the others together."""
    axis = pairs.dims.index(side)
    sizes = np.abs(pairs.to_numpy()).sum(axis=1 - axis)
    order = [int(place) for place in np.argsort(-sizes, kind="stable")]
    kept, others = sorted(order[:k]), sorted(order[k:])
    names = [literal(pairs[side].to_numpy()[place]) for place in kept]
    groups = [[place] for place in kept]
    return ([*names, f"{len(others)} others"], [*groups, others]) if others else (names, groups)


def _gathered(numbers: np.ndarray, groups: list[list[int]], axis: int) -> np.ndarray:
    """Sums over groups of places along an axis."""
    return np.stack([numbers.take(group, axis=axis).sum(axis=axis) for group in groups], axis=axis)


def _lost(rows: pd.DataFrame, *, first: bool) -> list[go.Bar | go.Scatter]:
    """What is lost, and where controls lie."""
    bars = go.Bar(
        x=100 * rows["lost"],
        y=list(map(literal, rows["source"])),
        orientation="h",
        name="lost",
        showlegend=first,
        marker={"color": style.LINE},
        error_x={"array": 100 * rows["stderr"].fillna(0.0), "thickness": 1.2, "width": 3, "color": style.GREY},
        customdata=rows[["natural", "without"]].to_numpy(),
        hovertemplate="%{y}: %{x:.1f} %<br>%{customdata[0]:.3f} to %{customdata[1]:.3f}<extra></extra>",
    )
    compared = rows.dropna(subset=["control"])
    controls = go.Scatter(
        x=100 * compared["control"],
        y=list(map(literal, compared["source"])),
        mode="markers",
        name="others of<br>its size",
        showlegend=first,
        marker={"symbol": "diamond", "size": 9, "color": style.EMPTY, "line": {"color": style.GREY, "width": 1.5}},
        error_x={"array": 100 * compared["control_std"].fillna(0.0), "thickness": 1.2, "width": 3, "color": style.GREY},
        hovertemplate="others, at the size of %{y}: %{x:.1f} %<extra></extra>",
    )
    return [bars, controls]
