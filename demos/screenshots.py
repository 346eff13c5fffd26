"""What an interactive output looks like, as a PNG, in headless Chromium."""

import base64
import tempfile
import time
from pathlib import Path

from tests.browser import chromium

_WIDTH, _MOST_HEIGHT = 1000, 1200
_SECONDS_TO_DRAW = 4.0


def picture_of_html(html: str, *, locked: int | None = None) -> bytes:
    """A page that holds this HTML, down to some height, as a PNG.

    Args:
        html: an output of a notebook.
        locked: in a view of a text, the token that is clicked on before.
    """
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as driver:
        page = Path(folder) / "page.html"
        page.write_text(f"<!doctype html><meta charset='utf-8'><body>{html}</body>", encoding="utf8")
        driver.set_window_size(_WIDTH, 900)
        driver.get(page.as_uri())
        time.sleep(_SECONDS_TO_DRAW)
        if locked is not None:
            driver.switch_to.frame(0)
            driver.find_element("css selector", f"[data-place='{locked}']").click()
            driver.switch_to.default_content()
            time.sleep(1)
        height = driver.execute_script("return Math.ceil(document.body.getBoundingClientRect().bottom) + 8")
        clip = {"x": 0, "y": 0, "width": _WIDTH, "height": min(int(height), _MOST_HEIGHT), "scale": 1}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])
