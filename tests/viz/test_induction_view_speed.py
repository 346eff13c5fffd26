"""A text of 1,024 tokens with GPT-2 small's 144 heads opens at once and answers every hover."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ih_lens as ih
from tests.viz.text_heads import random_heads

pytest.importorskip("selenium.webdriver")
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.viz.viewer_page import ViewerPage

COUNT_DECODED = """
window.decodedStreams = 0;
window.DecompressionStream = class extends DecompressionStream {
  constructor(format) { super(format); window.decodedStreams++; }
};
"""
HOVER = """
const done = arguments[arguments.length - 1];
(async () => {
  const spans = [...document.querySelectorAll('.pattern .text span')], answered = [], painted = [];
  for (let turn = 0; turn < 40; turn++) {
    const span = spans[(500 + 97 * turn) % spans.length];
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    span.dispatchEvent(new PointerEvent('pointerover', { bubbles: true, clientX: turn + 1, clientY: 1 }));
    document.body.offsetHeight;
    answered.push(performance.now() - start);
    await new Promise((resume) => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = resume;
      channel.port2.postMessage(0);
    }));
    painted.push(performance.now() - start);
  }
  const median = (times) => times.sort((one, other) => one - other)[times.length / 2];
  done([median(answered), median(painted)]);
})();
"""


@pytest.fixture(scope="module")
def big() -> ih.HeadsOnText:
    """144 heads, of which every twelfth is the same: what they hold does not matter here."""
    texts = [word for _ in range(64) for word in (" one", " two", ",", " three", "\n", " four", ".", " five") * 2]
    heads, _, _ = random_heads(texts, 12, sharpness=5.0)
    assert heads.attributions is not None
    return replace(
        heads,
        heads=tuple(ih.HeadIndex(layer, head) for layer in range(12) for head in range(12)),
        patterns=heads.patterns * 12,
        attributions=heads.attributions * 12,
        thumbnails=heads.thumbnails.repeat(12, 1, 1),
        scores={"prefix_matching": tuple((53 * place % 144) / 144 for place in range(144))},
    )


@pytest.fixture
def page(browser: webdriver.Chrome, big: ih.HeadsOnText, tmp_path: Path) -> Iterator[ViewerPage]:
    counter = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COUNT_DECODED})
    yield ViewerPage.opened(browser, ih.viz.induction_view(big), tmp_path / "view.html")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", counter)


def test_a_large_view_opens_and_answers_fast(page: ViewerPage) -> None:
    opened = page.browser.execute_script("return document.documentElement.dataset.opened")
    assert float(opened) < 3000
    answered, painted = page.browser.execute_async_script(HOVER)
    print(f"opened in {float(opened):.0f} ms; a hover takes {answered:.1f} ms, {painted:.1f} ms until it is painted")
    assert answered < 50


def test_only_what_is_shown_is_decoded(page: ViewerPage, big: ih.HeadsOnText) -> None:
    count = "return window.decodedStreams"
    ranked = sorted(range(144), key=lambda place: -big.scores["prefix_matching"][place])
    assert page.browser.execute_script(count) == 3  # two matrices and the thumbnails
    page.press("j")
    page.shows(str(big.heads[ranked[1]]))
    assert page.browser.execute_script(count) == 5
    page.press("k")
    page.shows(str(big.heads[ranked[0]]))
    assert page.browser.execute_script(count) == 5  # kept


def test_thumbnails_are_drawn_when_they_come_into_sight(page: ViewerPage, big: ih.HeadsOnText) -> None:
    script = """
    const canvas = document.querySelectorAll('.head canvas')[arguments[0]];
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
    """
    WebDriverWait(page.browser, 20).until(lambda browser: browser.execute_script(script, 0))
    assert not page.browser.execute_script(script, 143)
    page.browser.execute_script("document.querySelectorAll('.head')[143].scrollIntoView()")
    WebDriverWait(page.browser, 20).until(lambda browser: browser.execute_script(script, 143))


def test_all_heads_are_averaged_while_the_page_answers(page: ViewerPage) -> None:
    page.button("[data-mode=average]")
    page.button("[data-choose=all]")
    WebDriverWait(page.browser, 20, 0.01).until(lambda _: " of 144" in page.text("#status"))
    page.hover(10)  # while it is being read
    assert page.selected == 10
    script = "return document.documentElement.dataset.shown.split('+').length"
    WebDriverWait(page.browser, 60).until(lambda browser: browser.execute_script(script) == 144)
    answered, _ = page.browser.execute_async_script(HOVER)
    assert answered < 50


def test_keys_and_the_list_of_the_strongest_bring_tokens_into_sight(page: ViewerPage) -> None:
    script = """
    const box = document.querySelectorAll('.pattern .text span')[arguments[0]].getBoundingClientRect();
    const top = document.querySelector('.pattern .overview').getBoundingClientRect().bottom;
    return box.top >= top && box.bottom <= innerHeight;
    """
    assert not page.browser.execute_script(script, 1023)
    page.press(Keys.END)
    assert page.browser.execute_script(script, 1023)
    page.press(Keys.ENTER)
    found = page.browser.find_elements("css selector", ".pattern .strongest dd")
    places = [int(entry.get_attribute("data-goto")) for entry in found]
    page.button(f".pattern .strongest dd[data-goto='{min(places)}']")
    assert page.browser.execute_script(script, min(places))
    assert (page.selected, page.locked) == (1023, True)
    page.press(Keys.HOME)
    assert page.browser.execute_script(script, 0)
