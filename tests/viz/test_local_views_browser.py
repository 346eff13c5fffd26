"""Coloured texts and attention patterns in a real browser, from files, without network."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import LocalHTML
from tests.analysis.made_up import losses_of
from tests.viz.test_attention_heads import patterns
from tests.viz.test_coloured_tokens import HOSTILE, expected_colour, read

pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import foreign, open_file, requested

if TYPE_CHECKING:
    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement

TEXTS = ["<s>", " the", "\n", " é", *HOSTILE]
SAID = "return getComputedStyle(arguments[0], '::after').content"
COLOUR = "return getComputedStyle(arguments[0]).backgroundColor"


def show(browser: "webdriver.Chrome", view: LocalHTML, folder: Path) -> None:
    """Open a view's file, after forgetting what was before."""
    browser.get("about:blank")
    requested(browser), browser.get_log("browser")
    open_file(browser, view.save(folder / "view.html"))


def check_quiet(browser: "webdriver.Chrome") -> None:
    """Nothing was asked for but the file itself, and no script complained."""
    asked = requested(browser)
    assert [address for address in asked if address.endswith("/view.html")]
    assert foreign(asked) == []
    assert not [address for address in asked if not address.endswith("/view.html") and address.startswith("file:")]
    assert browser.get_log("browser") == []


def channels(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)][:3]


def test_coloured_losses(browser: "webdriver.Chrome", tmp_path: Path) -> None:
    first, second = np.random.default_rng(0).normal(4, 1, (2, 1, len(TEXTS) - 1))
    before, after = (losses_of(full, keep_all=True, at=(1,)) for full in (first, second))
    view = viz.coloured_loss_differences(ih.token_loss_differences(before, after), TEXTS)
    show(browser, view, tmp_path)
    tokens = browser.find_elements(By.CSS_SELECTOR, ".t")
    assert [token.text for token in tokens][:4] == ["<s>", "·the", "↵", "·é"]
    assert [token.text.replace("·", " ") for token in tokens[4:]] == HOSTILE
    changes = (second - first)[0]
    assert channels(browser.execute_script(COLOUR, tokens[0])) == [213, 213, 213]
    for place, token in enumerate(tokens[1:]):
        found = channels(browser.execute_script(COLOUR, token))
        assert found == expected_colour(-changes[place], np.abs(changes).max())
    for place in (1, 3):
        ActionChains(browser).move_to_element(tokens[place]).perform()
        said = browser.execute_script(SAID, tokens[place])
        assert f"{first[0, place - 1]:.2f} before, {second[0, place - 1]:.2f} after" in said
    tokens[3].click()
    ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, ".title")).perform()
    assert f"{first[0, 2]:.2f} before" in browser.execute_script(SAID, tokens[3]), "a click keeps it"
    assert browser.execute_script(SAID, tokens[1]) == "none"
    assert browser.find_elements(By.TAG_NAME, "script") == []
    check_quiet(browser)


def test_choosing_among_values(browser: "webdriver.Chrome", tmp_path: Path) -> None:
    view = viz.coloured_tokens(["a", " b"], torch.tensor([[1.0, -1.0], [0.5, 2.0]]), labels=["first", "second"])
    show(browser, view, tmp_path)
    colours = [expected_colour(v, 2.0) for v in (1.0, -1.0, 0.5, 2.0)]
    for chosen, expected in ((1, colours[2:]), (0, colours[:2])):
        browser.find_elements(By.CSS_SELECTOR, "input")[chosen].click()
        shown = [token for token in browser.find_elements(By.CSS_SELECTOR, ".t") if token.is_displayed()]
        assert [channels(browser.execute_script(COLOUR, token)) for token in shown] == expected
    assert len(read(view.document).tokens) == 4
    check_quiet(browser)


def blueness_of(browser: "webdriver.Chrome", canvas: "WebElement") -> np.ndarray:
    """How blue, from 0 to 1, the middle of every cell of a small pattern is, which fills its canvas: [dest, src]."""
    script = """
const [canvas, n] = arguments, copy = document.createElement('canvas');
[copy.width, copy.height] = [canvas.width, canvas.height];
const context = copy.getContext('2d', {willReadFrequently: true});
const at = (place) => Math.floor((place + 0.5) / n * copy.width);
context.drawImage(canvas, 0, 0);
return [...Array(n).keys()].map((dest) => [...Array(n).keys()].map((src) =>
  context.getImageData(at(src), at(dest), 1, 1).data[0]));
"""
    return 1 - np.array(browser.execute_script(script, canvas, len(TEXTS))) / 255


def test_heads_are_drawn_and_answer_to_the_mouse(browser: "webdriver.Chrome", tmp_path: Path) -> None:
    given = patterns(3)
    show(browser, viz.attention_heads(given, TEXTS, heads=["L5H1", "L5H5", "L6H9"]), tmp_path)
    WebDriverWait(browser, 60).until(lambda page: len(page.find_elements(By.TAG_NAME, "canvas")) == 4)
    names = browser.find_elements(By.TAG_NAME, "h4")
    assert [name.text for name in names] == ["L5H1", "L5H5", "L6H9"]
    small = browser.find_elements(By.TAG_NAME, "canvas")[:3]
    WebDriverWait(browser, 60).until(lambda page: blueness_of(page, small[2])[0, 0] > 0.9)
    rows, columns = np.tril_indices(len(TEXTS))
    found = np.concatenate([blueness_of(browser, canvas)[rows, columns] for canvas in small])
    numbers = given[:, rows, columns].flatten().numpy()
    blueness = found[np.argsort(numbers)]
    assert (np.diff(blueness) >= 0).all(), "colours have the order of the numbers, in all heads together"
    assert found[numbers < 0.001].max() == pytest.approx(0, abs=0.01)
    assert blueness[-1] == 1
    assert len(set(blueness)) > 40
    enlarged = browser.find_elements(By.TAG_NAME, "h3")[1]
    for name, canvas in zip(names, small, strict=True):
        ActionChains(browser).move_to_element(canvas).perform()
        assert enlarged.text == f"{name.text} Zoomed"
    small[1].click()
    ActionChains(browser).move_to_element(enlarged).perform()
    assert enlarged.text == "L5H5 Zoomed", "a click keeps it"
    check_quiet(browser)
