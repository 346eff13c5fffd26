"""What every figure must have: units on its axes, colours that all readers can tell apart, a picture."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from PIL import Image

from ih_lens import viz
from tests.viz.colours import is_of_the_style
from tests.viz.every_figure import EVERY_FIGURE, contact_sheet, one_browser

every_figure = pytest.mark.parametrize("name", EVERY_FIGURE)
UNIT = re.compile(r"\(.+\)|\b(tokens|nats|steps?|layer|head|number of|share of)\b")


@cache
def drawn(name: str) -> go.Figure:
    return EVERY_FIGURE[name]()


@pytest.fixture(scope="module")
def browser() -> Iterator[None]:
    with one_browser():
        yield


def axes(figure: go.Figure) -> dict[str, Any]:
    """The axes that are drawn, by name."""
    layout = figure.layout.to_plotly_json()
    named = {name: axis for name, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", name)}
    return {name: axis for name, axis in named.items() if axis.get("visible", True)}


def title_of(part: dict[str, Any]) -> str:
    title = part.get("title") or {}
    return str(title.get("text", "") if isinstance(title, dict) else title)


def colour_bars(content: Any) -> Iterator[dict[str, Any]]:
    """Every colour bar, wherever it stands in a figure."""
    if isinstance(content, dict):
        for name, part in content.items():
            if name == "colorbar":
                yield part
            yield from colour_bars(part)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from colour_bars(part)


def colours(content: Any, key: str = "") -> Iterator[str]:
    """Every colour that is written out in a figure."""
    if isinstance(content, dict):
        for name, part in content.items():
            if name not in ("template", "colorscale"):
                yield from colours(part, name)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from colours(part, key)
    elif isinstance(content, str) and re.search("colou?r", key) and "axis" not in key:
        yield content


def test_every_function_that_draws_is_registered() -> None:
    public = {name for name in vars(viz) if name.startswith("plot_")}
    assert public - set(EVERY_FIGURE) == set(), "add them to EVERY_FIGURE in tests/viz/every_figure.py"
    assert {name.split(" (")[0] for name in EVERY_FIGURE} <= public


@every_figure
def test_every_axis_says_what_it_shows_and_in_which_unit(name: str) -> None:
    shown = axes(drawn(name))
    for axis, settings in shown.items():
        if title_of(settings):
            assert UNIT.search(title_of(settings)), f"{axis}: {title_of(settings)}"
        elif settings.get("type") != "category" and not is_of_names(drawn(name), axis):
            shared = re.sub("^([xy])", r"\1axis", settings.get("matches", ""))
            assert shared in shown, f"{axis} has no title, and shares none"
            assert title_of(shown[shared])


def is_of_names(figure: go.Figure, axis: str) -> bool:
    """Whether an axis shows names, which have no unit."""
    short = axis.replace("axis", "")
    values = [trace[axis[0]] for trace in figure.data if (trace[f"{axis[0]}axis"] or axis[0]) == short]
    return bool(values) and all(isinstance(entry, str | tuple | list) for value in values for entry in value)


@every_figure
def test_every_colour_bar_has_a_title(name: str) -> None:
    for bar in colour_bars(drawn(name).to_plotly_json()):
        assert title_of(bar)


@every_figure
def test_colours_are_those_that_all_readers_can_tell_apart(name: str) -> None:
    content = drawn(name).to_plotly_json()
    found = set(colours(content["data"])) | set(colours(content["layout"]))
    foreign = {colour for colour in found if not is_of_the_style(colour)}
    assert foreign == set(), "use the colours and scales of ih_lens/viz/style.py"


@every_figure
def test_every_figure_has_a_title_and_becomes_a_picture(name: str, browser: None, tmp_path: Path) -> None:
    assert drawn(name).layout.title.text
    picture = viz.save_figure(drawn(name), tmp_path / "figure.svg").read_text(encoding="utf8")
    assert picture.startswith("<svg")
    assert not re.search(r"\b(undefined|NaN)\b", picture)


def test_all_pictures_stand_on_one_sheet(tmp_path: Path) -> None:
    paths = [tmp_path / f"{shade}.png" for shade in (10, 20, 30)]
    for path, shade in zip(paths, (10, 20, 30), strict=True):
        Image.new("RGB", (20, 10), (shade,) * 3).save(path)
    sheet = contact_sheet(paths, width=40)
    assert sheet.size == (80, 40)
    assert [sheet.getpixel(place) for place in ((5, 5), (45, 5), (5, 25), (45, 25))] == [
        (10,) * 3, (20,) * 3, (30,) * 3, (255,) * 3,
    ]  # fmt: skip
