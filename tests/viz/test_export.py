"""Figures become files that say what they hold, without any network."""

import json
import sys
import zlib
from pathlib import Path

import kaleido
import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from kaleido.errors import BrowserFailedError, ChromeNotFoundError
from PIL import Image

import ih_lens as ih
from ih_lens import viz
from tests.viz.every_figure import one_browser


@pytest.fixture
def figure() -> go.Figure:
    drawn = go.Figure([go.Scatter(x=[1, 2, 3], y=[3.0, 1.0, 2.0], fill="tozeroy"), go.Heatmap(z=np.eye(3))])
    return drawn.update_layout(width=300, height=200, title="A title", margin={"l": 10, "r": 10, "t": 10, "b": 10})


def test_a_picture_has_the_size_that_was_asked_for(figure: go.Figure, tmp_path: Path) -> None:
    expected = (({}, (600, 400)), ({"scale": 1, "width": 250}, (250, 200)), ({"height": 100}, (600, 200)))
    with one_browser():
        for settings, size in expected:
            with Image.open(viz.save_figure(figure, tmp_path / "f.PNG", **settings)) as picture:
                assert picture.size == size
    assert figure.layout.width == 300
    assert [path.name for path in tmp_path.iterdir()] == ["f.PNG"]


def test_vector_graphics_and_pages(figure: go.Figure, tmp_path: Path) -> None:
    with one_browser():
        picture = viz.save_figure(figure, tmp_path / "f.svg").read_text(encoding="utf8")
        assert viz.save_figure(figure, str(tmp_path / "f.pdf")).read_bytes().startswith(b"%PDF")
    assert 'viewBox="0 0 300 200"' in picture
    assert "A title" in picture


def test_the_same_figure_gives_the_same_bytes(figure: go.Figure, tmp_path: Path) -> None:
    for suffix in (".svg", ".html", ".json"):
        one, other = (viz.save_figure(figure, tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "other"))
        assert zlib.crc32(one) == zlib.crc32(other), suffix


def test_a_page_opens_offline(figure: go.Figure, tmp_path: Path) -> None:
    page = viz.save_figure(figure, tmp_path / "f.html").read_text(encoding="utf8")
    assert len(page) > 3_000_000  # plotly.js is inside
    assert "<script src=" not in page.replace("'", '"')
    assert '<div id="figure"' in page


def test_data_can_be_read_again(figure: go.Figure, tmp_path: Path) -> None:
    path = viz.save_figure(figure, tmp_path / "f.json", width=111)
    again = plotly.io.read_json(path)
    assert again.layout.width == 111
    assert json.loads(again.to_json())["data"] == json.loads(figure.to_json())["data"]


def test_the_font_is_there_without_a_network(figure: go.Figure, tmp_path: Path) -> None:
    """Names of fonts end in a generic one, which every machine has."""
    assert viz.style.TEMPLATE.layout.font.family.split(", ")[-1] == "sans-serif"


def test_wrong_input(figure: go.Figure, tmp_path: Path) -> None:
    for name in ("f.gif", "f"):
        with pytest.raises(ih.InputError, match=f"ends in .png, .svg, .pdf, .html, .json; got '{name}'"):
            viz.save_figure(figure, tmp_path / name)
    for settings in ({"scale": 0}, {"width": 0}, {"height": -3}):
        with pytest.raises(ih.InputError, match="expected"):
            viz.save_figure(figure, tmp_path / "f.png", **settings)
    assert list(tmp_path.iterdir()) == []


def test_without_kaleido(figure: go.Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ih.CapabilityError, match=r"pip install \"ih-lens\[export\]\""):
        viz.save_figure(figure, tmp_path / "f.svg")
    assert viz.save_figure(figure, tmp_path / "f.html").exists()


def test_without_a_browser(figure: go.Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> bytes:
        raise ChromeNotFoundError

    def broken(*args: object, **kwargs: object) -> bytes:
        raise BrowserFailedError("exit 1")

    monkeypatch.setattr(kaleido, "calc_fig_sync", missing)
    with pytest.raises(ih.CapabilityError, match=r"no browser was found.*chromium.*BROWSER_PATH"):
        viz.save_figure(figure, tmp_path / "f.png")
    monkeypatch.setattr(kaleido, "calc_fig_sync", broken)
    monkeypatch.setenv("BROWSER_PATH", "/opt/odd")
    with pytest.raises(ih.CapabilityError, match=r"/opt/odd did not start or answer \(exit 1\)"):
        viz.save_figure(figure, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []


def test_a_real_browser_that_is_none(figure: go.Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "missing"))
    with pytest.raises(ih.CapabilityError, match="BROWSER_PATH"):
        viz.save_figure(figure, tmp_path / "f.png")
