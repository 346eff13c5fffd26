"""Figures as files: images through kaleido and a browser of this machine, pages and data without either."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ih_lens.atomic import write_bytes
from ih_lens.errors import CapabilityError, InputError
from ih_lens.validate import at_least

IMAGES = (".png", ".svg", ".pdf")
SUFFIXES = (*IMAGES, ".html", ".json")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_INSTALL = (
    "saving images needs a Chrome or Chromium: install one (Debian: apt-get install chromium; anywhere: "
    "plotly_get_chrome), or name one in the environment variable BROWSER_PATH; .html and .json need none"
)


def save_figure(
    figure: go.Figure, path: str | Path, *, scale: int | float = 2, width: int | None = None, height: int | None = None
) -> Path:
    """Write a figure to a file, in one step; the suffix says as what. Nothing is fetched from the network.

    Args:
        figure: any plotly figure.
        path: ends in .png, .svg or .pdf (images, by kaleido: `pip install "ih-lens[export]"`, and a Chrome or
            Chromium, which is found where it is installed), .html (a page that holds plotly.js and opens offline) or
            .json (plotly's own format, for `plotly.io.read_json`).
        scale: pixels of a .png per pixel of the figure.
        width: in pixels, instead of the figure's own.
        height: in pixels, instead of the figure's own.

    Returns:
        The path. The same figure gives the same bytes in .svg, .html and .json.

    Raises:
        InputError: if the suffix is another one, or a size is not positive.
        CapabilityError: if kaleido or a browser is missing or fails; it says what to install.

    Examples:
        >>> save_figure(figure, "loss.svg")
        PosixPath('loss.svg')
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"path: expected a name that ends in {', '.join(SUFFIXES)}; got {target.name!r}")
    sizes = {name: at_least(name, value, 1) for name, value in (("width", width), ("height", height)) if value}
    if scale <= 0 or 0 in (width, height):
        raise InputError(f"expected positive sizes, got scale={scale}, width={width} and height={height}")
    drawn = go.Figure(figure).update_layout(sizes)
    write_bytes(target, _image(drawn, suffix[1:], scale) if suffix in IMAGES else _text(drawn, suffix).encode())
    return target


def _text(figure: go.Figure, suffix: str) -> str:
    """A page or plotly's JSON."""
    if suffix == ".json":
        return str(figure.to_json())
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="figure"))


def _image(figure: go.Figure, kind: str, scale: int | float) -> bytes:
    """What the browser draws."""
    try:
        import kaleido
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    except ImportError as error:
        raise CapabilityError(
            f'saving a .{kind} needs kaleido: pip install "ih-lens[export]"; .html and .json need none'
        ) from error
    settings: dict[str, Any] = {"format": kind, "scale": scale if kind == "png" else 1}
    settings |= {name: size for name in ("width", "height") if (size := figure.layout[name])}
    try:
        with warnings.catch_warnings():
            # kaleido says so when a server that the caller started has settings of its own
            warnings.filterwarnings("ignore", message="The kopts argument is ignored", category=UserWarning)
            drawn = kaleido.calc_fig_sync(_plain(figure), opts=settings, kopts={"mathjax": False})
    except ChromeNotFoundError as error:
        raise CapabilityError(f"no browser was found; {_INSTALL}") from error
    except (BrowserClosedError, BrowserFailedError, TimeoutError) as error:
        raise CapabilityError(f"{_chosen_browser()} did not start or answer ({error}); {_INSTALL}") from error
    return _without_random_names(drawn) if kind == "svg" else bytes(drawn)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """The figure as JSON has it, with traces named by their place: plotly.js would draw random names."""
    content = json.loads(str(figure.to_json()))
    for place, trace in enumerate(content["data"]):
        trace["uid"] = f"{place}"
    return content


def _without_random_names(drawn: bytes) -> bytes:
    """The random part of plotly.js's names of clipping paths replaced by a constant one."""
    found = re.search(rb'id="topdefs-([0-9a-f]{6})"', drawn)
    return drawn.replace(found.group(1), b"figure") if found else drawn


def _chosen_browser() -> str:
    """The browser that kaleido takes, for the message of an error."""
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, _BROWSERS)), "the browser")
