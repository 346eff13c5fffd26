"""No name, label or token is markup, a link or a template in any figure."""

import re
from collections.abc import Callable, Iterator
from functools import wraps
from inspect import getmembers, isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
import xarray as xr

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from ih_lens.viz.plotly_text import literal
from tests.viz import realistic
from tests.viz.every_figure import EVERY_FIGURE

if TYPE_CHECKING:
    from selenium import webdriver

MARKUP = '<b>bold</b><sub>x</sub><a href="https://a.invalid">link</a>%{pwned}<extra>x</extra>$\\alpha$&lt;&#60;'
RAW = re.compile(r"</?b>|</?sub>|<a |</a>|%\{pwned|<extra>x|\$|(?<!&amp;)lt;&|(?<!&amp;)#60;")
SHOWN = "&lt;b&gt;bold"
NAMELESS = {"plot_repetition_dominance", "plot_composition", "plot_composition_matrix", "plot_induction_kinds"}
"""Figures that show heads and measures only; `test_no_measure_is_markup` has those."""
PLACES = ["gtitle", "xtitle", "ytitle", "xtick", "legendtext", "annotation-text", "cbtitle", "textpoint"]
_CODES = {"kind", "side", "bound", "snapshot", "example"}
"""Columns and coordinates whose texts choose what is drawn, from a fixed set."""
_NOT_DRAWN = {"legendgroup", "uid", "template", "categoryarray"}


def hostile(value: Any) -> Any:
    """The same with markup behind every name, label, unit and token, wherever names of models or conditions stand."""
    match value:
        case str():
            return value + MARKUP
        case ih.HeadScores():
            return ih.HeadScores(hostile(value.dataset), value.spread)
        case ih.Estimate():
            return ih.Estimate(hostile(value.value), hostile(value.stderr), value.n_examples)
        case xr.DataArray() | xr.Dataset():
            return _hostile_labels(value)
        case pd.DataFrame():
            texts = [name for name in value if name not in _CODES and isinstance(value[name].iloc[0], str)]
            changed: Any = value.assign(**{name: value[name] + MARKUP for name in texts})
            return changed
        case dict():
            return {hostile(name): hostile(of) for name, of in value.items()}
        case list() if value and isinstance(value[0], str):
            return [hostile(text) for text in value]
        case _:
            return value


def _hostile_labels(values: Any) -> Any:
    chosen = [name for name, of in values.coords.items() if of.dtype.kind in "UO" and name not in _CODES]
    changed = values.assign_coords(
        {name: (values[name].dims, [str(text) + MARKUP for text in values[name].to_numpy()]) for name in chosen}
    )
    if isinstance(values, xr.Dataset):
        changed = changed.assign({name: of.assign_attrs(_shown(of.attrs)) for name, of in changed.data_vars.items()})
    return changed.assign_attrs(_shown(values.attrs))


def _shown(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that a figure may show, with markup."""
    known = {"unit": "score", **attributes}
    return {name: hostile(known[name]) for name in ("unit", "undefined", "head", "heads") if name in known}


def called_with_markup(draw: Callable[..., go.Figure]) -> Callable[..., go.Figure]:
    @wraps(draw)
    def call(first: Any, *others: Any, **named: Any) -> go.Figure:
        rest = [of if isinstance(of, str) else hostile(of) for of in others]
        return draw(hostile(first), *rest, **{name: hostile(of) for name, of in named.items()})

    return call


def strings(content: Any) -> Iterator[str]:
    """Every text of a figure that plotly might draw."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, part in content.items():
            if name not in _NOT_DRAWN:
                yield from strings(part)
    elif isinstance(content, list | tuple) or (isinstance(content, np.ndarray) and content.dtype.kind in "UO"):
        for part in content:
            yield from strings(part)


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_no_name_is_markup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for function, draw in getmembers(viz, isfunction):
        if function.startswith("plot_"):
            monkeypatch.setattr(viz, function, called_with_markup(draw))
    found = list(strings(EVERY_FIGURE[name]().to_plotly_json()))
    assert not [text for text in found if RAW.search(text)]
    assert any(SHOWN in text for text in found) == (name not in NAMELESS)


def _renamed(scores: ih.HeadScores) -> ih.HeadScores:
    """Measures with markup in front; their ends, such as _baseline, mean something."""
    return ih.HeadScores(scores.dataset.rename({name: MARKUP + name for name in scores.names}))


def _of_measures() -> dict[str, go.Figure]:
    scores, name, other = _renamed(realistic.all_scores(2, 4)), f"{MARKUP}copying", f"{MARKUP}previous_token"
    kinds, composition = _renamed(realistic.kinds_of_induction()), realistic.composition().rename(MARKUP)
    behaviours = {f"{MARKUP}x{end}": scores[name].to_numpy() for end in ("", "_baseline", "_excess")}
    tensors = {measure: torch.tensor(of) for measure, of in {**behaviours, name: scores[name].to_numpy()}.items()}
    of_behaviours = ih.HeadScores.from_tensors(tensors, attributes={of: {"range": (-1, 1)} for of in tensors})
    return {
        "plot_behaviours": viz.plot_behaviours(of_behaviours, against=name),
        "plot_composition": viz.plot_composition(composition),
        "plot_composition_matrix": viz.plot_composition_matrix(composition),
        "plot_head_mosaic": viz.plot_head_mosaic({"2L": scores}, name),
        "plot_induction_kinds": viz.plot_induction_kinds(kinds, measures=[kinds.names[0]]),
        "plot_score_agreement": viz.plot_score_agreement({"2L": scores}, name, other),
        "plot_score_by_depth": viz.plot_score_by_depth({"2L": scores}, name),
    }


def test_no_measure_is_markup() -> None:
    drawn = {name: list(strings(figure.to_plotly_json())) for name, figure in _of_measures().items()}
    assert not {name: texts for name, texts in drawn.items() if any(RAW.search(text) for text in texts)}
    assert all(any(SHOWN in text for text in texts) for texts in drawn.values())


def test_texts_without_signs_stay() -> None:
    harmless = "pythia-70m (seed 1), 95 % of 'x' \"y\" # _a_ é{0}"
    assert literal(harmless) == harmless
    assert literal(3) == "3"


def test_a_browser_shows_what_stands_there(browser: "webdriver.Chrome", tmp_path: Path) -> None:
    from tests.browser import open_file

    text = literal(MARKUP)
    bar = style.colour_bar(text)
    points = go.Scatter(x=[text], y=[1], name=text, text=[text], mode="markers+text", showlegend=True)
    points.update(hovertemplate=f"{text} at %{{x}}<extra>{text}</extra>", marker={"color": [1], "colorbar": bar})
    figure = go.Figure(points).update_layout(title=text, xaxis_title=text, yaxis_title=text, width=1400)
    figure.update_xaxes(type="category").add_annotation(x=0.5, y=0.2, xref="paper", yref="paper", text=text)
    open_file(browser, viz.save_figure(figure, tmp_path / "figure.html"), "document.querySelector('#figure .xtitle')")
    browser.execute_script("Plotly.Fx.hover('figure', [{curveNumber: 0, pointNumber: 0}])")
    found: dict[str, list[str]] = browser.execute_script(
        "return Object.fromEntries(arguments[0].map(name => [name,"
        " [...document.querySelectorAll('.' + name)].map(part => part.textContent)]))",
        [*PLACES, "hovertext"],
    )
    assert {name: found[name] for name in PLACES} == {name: [MARKUP] for name in PLACES}
    assert f"{MARKUP} at {MARKUP}" in "".join(found["hovertext"])
    assert browser.execute_script("return document.querySelectorAll('svg a').length") == 0
