"""The viewer in a browser, as a reader uses it: pointer, keys, and what can be read off the page."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from torch import Tensor

import ih_lens as ih
from tests.browser import open_file

READY = "document.documentElement.dataset.shown !== undefined"
COLOURS = """
return [...document.querySelectorAll(`.panel:nth-child(${arguments[1] + 1}) .${arguments[0]} .text span`)]
  .map((span) => getComputedStyle(span).backgroundColor);
"""
POINT_AT_ALL = """
const spans = [...document.querySelectorAll(`.${arguments[0]} .text span`)];
return spans.map((span, place) => {
  span.dispatchEvent(new PointerEvent('pointerover', { bubbles: true, clientX: -place - 1, clientY: Math.random() }));
  return document.querySelector(`.${arguments[0]} .pair b`).textContent;
});
"""


@dataclass(frozen=True)
class ViewerPage:
    """A page that is open, or the frame that the browser is in."""

    browser: webdriver.Chrome

    @classmethod
    def opened(cls, browser: webdriver.Chrome, view: ih.InductionView, path: Path) -> "ViewerPage":
        """Save and open it, with nothing in the log from before."""
        browser.get_log("browser")
        open_file(browser, view.save(path), READY)
        return cls(browser)

    def ready(self) -> "ViewerPage":
        """Wait until the first head is shown."""
        WebDriverWait(self.browser, 60).until(lambda page: page.execute_script(f"return {READY}"))
        return self

    def token(self, place: int, kind: str = "pattern") -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, f".{kind} .text span[data-place='{place}']")

    def hover(self, place: int, kind: str = "pattern") -> None:
        ActionChains(self.browser, duration=0).move_to_element(self.token(place, kind)).perform()

    def click(self, place: int, kind: str = "pattern") -> None:
        ActionChains(self.browser, duration=0).move_to_element(self.token(place, kind)).click().perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def button(self, selector: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, selector).click()

    def choose(self, menu: str, value: str) -> None:
        script = "const menu = document.querySelector(arguments[0]); menu.value = arguments[1];"
        self.browser.execute_script(f"{script} menu.dispatchEvent(new Event('change'))", menu, value)

    def shows(self, heads: str) -> None:
        """Wait until these are shown: "L1H0", "L1H0+L1H1" for an average, "L1H0 L1H1" side by side."""
        script = "return document.documentElement.dataset.shown"
        WebDriverWait(self.browser, 30, 0.02).until(lambda page: page.execute_script(script) == heads, heads)

    def text(self, selector: str) -> str:
        return str(self.browser.execute_script("return document.querySelector(arguments[0]).textContent", selector))

    @property
    def selected(self) -> int | None:
        """The selected token, the same in both texts."""
        script = "return [...document.querySelectorAll('.text .selected')].map((span) => Number(span.dataset.place))"
        found = set(self.browser.execute_script(script))
        assert len(found) <= 1
        return found.pop() if found else None

    @property
    def locked(self) -> bool:
        return bool(self.browser.execute_script("return document.body.classList.contains('locked')"))

    def strengths(self, kind: str, panel: int = 0) -> list[float]:
        """How strongly each token is coloured, 0 to 1."""
        return [opacity(colour) for colour in self.browser.execute_script(COLOURS, kind, panel)]

    def numbers(self, kind: str) -> list[float]:
        """The value of each token beside the locked one, as the page writes it; NaN where it writes none."""
        told = self.browser.execute_script(POINT_AT_ALL, kind)
        return [math.nan if text == "–" else float(text) for text in told]


def opacity(colour: str) -> float:
    """Of a computed CSS colour."""
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)]
    return parts[3] if len(parts) == 4 else 1.0


def wanted_values(kind: str, matrix: Tensor, selected: int, direction: str) -> list[float]:
    """What belongs to each token: the definition written out."""
    n_pos = matrix.shape[0] + (kind == "attribution")
    values = [math.nan] * n_pos
    for place in range(n_pos):
        earlier, later = (place, selected) if direction == "destination" else (selected, place)
        if kind == "pattern" and earlier <= later:
            values[place] = float(matrix[later, earlier])  # the later token attends
        if kind == "attribution" and earlier < later:
            values[place] = float(matrix[later - 1, earlier])  # token `later` is predicted one position before it
    return values


def row_maximum(kind: str, matrix: Tensor, selected: int, direction: str) -> list[float]:
    """The largest magnitude of the matrix row that each token's value lies in."""
    n_pos, shift = matrix.shape[0] + (kind == "attribution"), int(kind == "attribution")
    rows = [(selected if direction == "destination" else place) - shift for place in range(n_pos)]
    return [float(matrix[row].abs().max()) if 0 <= row < len(matrix) else 0.0 for row in rows]


def agree(page: ViewerPage, matrices: Mapping[str, Tensor], selected: int, direction: str, panel: int = 0) -> None:
    """The colours of all tokens are what the float matrices say."""
    for kind, matrix in matrices.items():
        full = 1.0 if kind == "pattern" else float(matrix.abs().max())
        wanted = wanted_values(kind, matrix, selected, direction)
        errors = row_maximum(kind, matrix, selected, direction)
        for found, value, row in zip(page.strengths(kind, panel), wanted, errors, strict=True):
            strength = 0.0 if math.isnan(value) else max(value, 0.0) / full
            # a colour's opacity is itself one of 256, and rounded to three digits
            assert found == pytest.approx(strength, abs=row / 255 / full + 0.5 / 255 + 0.001), (kind, selected)
