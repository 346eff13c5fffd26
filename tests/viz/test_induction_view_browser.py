"""The viewer in a real browser: every colour and number is the tensor's, and it answers as it says it does."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch

import ih_lens as ih
from tests.browser import open_file, requested
from tests.viz.text_heads import HOSTILE, TEXTS, random_heads

pytest.importorskip("selenium.webdriver")
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.viz.viewer_page import ViewerPage, agree, row_maximum, wanted_values

HEADS, PATTERNS, ATTRIBUTIONS = random_heads()
MATRICES = {"pattern": PATTERNS, "attribution": ATTRIBUTIONS}
FIRST = max(range(3), key=lambda place: HEADS.scores["prefix_matching"][place])
"""The head with the highest score, which is shown first."""


@pytest.fixture
def page(browser: webdriver.Chrome, tmp_path: Path) -> ViewerPage:
    return ViewerPage.opened(browser, ih.viz.induction_view(HEADS), tmp_path / "view.html")


def test_hovering_colours_by_the_rows_of_both_matrices(page: ViewerPage) -> None:
    page.shows(f"L1H{FIRST}")
    chosen = {kind: matrix[FIRST] for kind, matrix in MATRICES.items()}
    for selected in (0, 1, 7, len(TEXTS) - 1):
        page.hover(selected)
        assert page.selected == selected
        assert not page.locked
        agree(page, chosen, selected, "destination")
    page.hover(5, "attribution")  # the two texts answer alike
    agree(page, chosen, 5, "destination")


@pytest.mark.parametrize("direction", ["destination", "source"])
def test_numbers_are_within_their_share_of_the_row_maximum(page: ViewerPage, direction: str) -> None:
    page.button(f"[data-direction={direction}]")
    for selected, (kind, matrices) in product((0, 4, len(TEXTS) - 1), MATRICES.items()):
        matrix = matrices[FIRST]
        page.click(selected)
        wanted = wanted_values(kind, matrix, selected, direction)
        for found, value, row in zip(
            page.numbers(kind), wanted, row_maximum(kind, matrix, selected, direction), strict=True
        ):
            # numbers are written with four digits
            assert found == pytest.approx(value, abs=row / 255 + 5e-4 * abs(value), nan_ok=True), (kind, selected)
        page.press(Keys.ESCAPE)


def test_red_is_row_p_and_blue_the_row_before(browser: webdriver.Chrome, tmp_path: Path) -> None:
    n_pos, selected = 8, 5
    heads, _, _ = random_heads([str(place) for place in range(n_pos)], 1)
    page = ViewerPage.opened(browser, ih.viz.induction_view(heads), tmp_path / "view.html")
    page.click(selected)
    assert "where the head looks, to predict the next token" in page.text(".pattern .says")
    assert f"Predicting “{selected}” at {selected} itself, from position {selected - 1}" in page.text(
        ".attribution .says"
    )
    for found, row in (
        (page.numbers("pattern"), heads.pattern("L1H0")[selected]),
        (page.numbers("attribution"), heads.attribution("L1H0")[selected - 1]),
    ):
        shown = [value for value in found if not math.isnan(value)]
        assert shown == pytest.approx(row[: len(shown)].tolist(), rel=5e-4, abs=1e-12)
    assert sum(not math.isnan(value) for value in page.numbers("pattern")) == selected + 1
    assert sum(not math.isnan(value) for value in page.numbers("attribution")) == selected


def test_lock_and_unlock(page: ViewerPage) -> None:
    page.hover(3)
    page.click(3)
    page.hover(9)
    assert (page.selected, page.locked) == (3, True)
    page.click(3)  # again: unlocked, and hovering works
    page.hover(9)
    assert (page.selected, page.locked) == (9, False)
    page.click(4)
    page.click(6)  # another one: the lock moves there
    assert (page.selected, page.locked) == (6, True)
    page.press(Keys.ESCAPE)
    assert (page.selected, page.locked) == (None, False)
    page.hover(2)
    assert page.selected == 2
    page.click(2)
    page.button(".panel h2")  # elsewhere
    assert (page.selected, page.locked) == (None, False)
    page.hover(8)
    assert page.selected == 8
    page.click(8)
    page.button("#head-0")  # another head is looked at from the same token
    page.shows("L1H0")
    assert (page.selected, page.locked) == (8, True)


def test_selected_is_source(page: ViewerPage) -> None:
    chosen = {kind: matrix[FIRST] for kind, matrix in MATRICES.items()}
    page.button("[data-direction=source]")
    for selected in (0, 6, len(TEXTS) - 1):
        page.hover(selected)
        agree(page, chosen, selected, "source")
    page.press("s")
    agree(page, chosen, len(TEXTS) - 1, "destination")


def test_nothing_selected_shows_the_strongest_of_each_source(page: ViewerPage) -> None:
    for kind, full in (("pattern", 1.0), ("attribution", float(ATTRIBUTIONS[FIRST].abs().max()))):
        matrix = MATRICES[kind][FIRST]
        n_pos = len(TEXTS)
        for place, found in enumerate(page.strengths(kind)):
            later = (
                matrix[place + 1 if kind == "pattern" else place :, place] if place < len(matrix) else torch.zeros(0)
            )
            wanted = float(later.max()) if len(later) else 0.0
            assert found == pytest.approx(max(0.0, wanted) / full, abs=2 / 255), (kind, place, n_pos)
    assert "Nothing selected" in page.text(".pattern .says")


def test_heads_are_switched_by_click_and_keys(page: ViewerPage) -> None:
    ranked = sorted(range(3), key=lambda place: -HEADS.scores["prefix_matching"][place])
    page.shows(f"L1H{ranked[0]}")
    page.click(7)
    for key, place in (("j", 1), (Keys.ARROW_DOWN, 2), ("j", 2), ("k", 1), (Keys.ARROW_UP, 0)):
        page.press(key)
        page.shows(f"L1H{ranked[place]}")
    page.button("#head-1")
    page.shows("L1H1")
    agree(page, {kind: matrix[1] for kind, matrix in MATRICES.items()}, 7, "destination")


def test_keys_move_lock_and_turn(page: ViewerPage) -> None:
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert (page.selected, page.locked) == (1, False)
    page.press(Keys.ENTER)
    assert page.locked
    page.press(Keys.ARROW_RIGHT)
    assert (page.selected, page.locked) == (2, True)
    page.press(" ")
    assert not page.locked
    page.press(Keys.END)
    assert page.selected == len(TEXTS) - 1
    page.press(Keys.HOME, "s")
    assert page.selected == 0
    agree(page, {kind: matrix[FIRST] for kind, matrix in MATRICES.items()}, 0, "source")


def names(page: ViewerPage) -> list[str]:
    script = "return [...document.querySelectorAll('#heads .head b')].map((name) => name.textContent)"
    return list(page.browser.execute_script(script))


def test_heads_are_sorted_by_any_score(page: ViewerPage) -> None:
    for choice, order in (
        ("prefix matching", sorted(range(3), key=lambda place: -HEADS.scores["prefix_matching"][place])),
        ("copying", [1, 0, 2]),  # the last has none
        ("name", [0, 1, 2]),
    ):
        page.choose("#sort", choice)
        assert names(page) == [f"L1H{place}" for place in order]
    assert page.text("#head-2 span") == f"{HEADS.scores['prefix_matching'][2]:.3f}"


def test_several_heads_averaged(page: ViewerPage) -> None:
    page.button("[data-mode=average]")
    page.button("[data-choose=all]")
    ranked = sorted(range(3), key=lambda place: -HEADS.scores["prefix_matching"][place])
    page.shows("+".join(f"L1H{place}" for place in ranked))
    for selected in (2, 9):
        page.hover(selected)
        agree(page, {kind: matrix.mean(0) for kind, matrix in MATRICES.items()}, selected, "destination")
    page.button(f"#head-{ranked[0]}")  # left out again
    page.shows("+".join(f"L1H{place}" for place in ranked[1:]))
    page.hover(6)
    agree(page, {kind: matrix[ranked[1:]].mean(0) for kind, matrix in MATRICES.items()}, 6, "destination")
    page.button("[data-choose=none]")
    page.shows("")
    assert page.text("#status") == "choose heads in the list"


def test_several_heads_side_by_side(page: ViewerPage) -> None:
    page.button("[data-mode=beside]")
    others = [place for place in range(3) if place != FIRST]
    page.button(f"#head-{others[0]}")
    page.shows(f"L1H{FIRST} L1H{others[0]}")
    page.hover(8)
    for panel, place in enumerate((FIRST, others[0])):
        agree(page, {kind: matrix[place] for kind, matrix in MATRICES.items()}, 8, "destination", panel)
    page.button("[data-mode=one]")
    page.shows(f"L1H{others[0]}")


def test_lowered_logits_are_hatched_on_request(page: ViewerPage) -> None:
    page.click(9)
    values = wanted_values("attribution", ATTRIBUTIONS[FIRST], 9, "destination")
    script = """
    const spans = document.querySelectorAll('.attribution .text span');
    return [...spans].map((span) => getComputedStyle(span).backgroundImage);
    """
    assert set(page.browser.execute_script(script)) == {"none"}
    page.button("#lowered")
    hatched = [image.startswith("repeating-linear-gradient") for image in page.browser.execute_script(script)]
    full = float(ATTRIBUTIONS[FIRST].abs().max())
    clear = [place for place, value in enumerate(values) if abs(value) > 0.01 * full]
    assert [hatched[place] for place in clear] == [values[place] < 0 for place in clear]
    assert any(hatched)
    assert float(page.text(".attribution .scale span").split()[0]) == pytest.approx(-full, rel=1e-3)
    page.button("#lowered")
    assert set(page.browser.execute_script(script)) == {"none"}


def test_colours_to_the_maximum_of_what_is_shown(page: ViewerPage) -> None:
    page.choose("#scale", "shown")
    page.click(6)
    for kind, matrices in MATRICES.items():
        values = [
            0.0 if math.isnan(value) else value for value in wanted_values(kind, matrices[FIRST], 6, "destination")
        ]
        most = max(map(abs, values))
        for found, value in zip(page.strengths(kind), values, strict=True):
            assert found == pytest.approx(max(value, 0) / most, abs=2.5 / 255)


def test_maps_select_too(page: ViewerPage) -> None:
    script = """
    const box = document.querySelector('.pattern .map canvas').getBoundingClientRect();
    const clientY = box.top + box.height * (arguments[0] + 0.5) / arguments[1];
    const at = { bubbles: true, clientX: box.left + 3, clientY };
    document.querySelector('.pattern .map canvas').dispatchEvent(new PointerEvent('pointermove', at));
    """
    page.browser.execute_script(script, 11, len(TEXTS))
    assert page.selected == 11


def test_attention_alone_says_why(browser: webdriver.Chrome, tmp_path: Path) -> None:
    heads, patterns, _ = random_heads(attributed=False)
    page = ViewerPage.opened(browser, ih.viz.induction_view(heads), tmp_path / "view.html")
    assert page.text(".attribution .missing") == "these logits are <no> sums"
    page.hover(5)
    agree(page, {"pattern": patterns[FIRST]}, 5, "destination")
    assert browser.get_log("browser") == []


def test_hostile_texts_do_nothing_and_nothing_is_asked_for(browser: webdriver.Chrome, tmp_path: Path) -> None:
    heads, _, _ = random_heads([*HOSTILE, "\u202eabc", "\x00", "😀"])
    requested(browser)
    page = ViewerPage.opened(browser, ih.viz.induction_view(heads, title=HOSTILE[0]), tmp_path / "view.html")
    page.click(1)
    page.numbers("pattern")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.pattern .text span')].map((span) => span.textContent)"
    )
    assert shown == [*(text.replace(" ", "·") for text in HOSTILE), "\\u202eabc", "␀", "😀"]
    assert browser.execute_script("return document.querySelectorAll('img, iframe').length") == 0
    assert page.text("h1") == browser.title == HOSTILE[0]
    assert [address for address in requested(browser) if not address.startswith("file:")] == []
    assert browser.get_log("browser") == []


def test_both_texts_stand_token_beside_token(page: ViewerPage) -> None:
    script = """
    const boxes = (kind) => [...document.querySelectorAll(`.${kind} .text span`)].map((s) => s.getBoundingClientRect());
    const [red, blue] = [boxes("pattern"), boxes("attribution")];
    return red.map((a, place) => [a.top - blue[place].top, a.width - blue[place].width, blue[place].left - a.left]);
    """
    offsets = page.browser.execute_script(script)
    for down, wider, across in offsets:
        assert (abs(down), abs(wider)) < (0.01, 0.01)
        assert across == pytest.approx(offsets[0][2], abs=0.01)


def test_an_old_browser_is_told(browser: webdriver.Chrome, tmp_path: Path) -> None:
    path = ih.viz.induction_view(HEADS).save(tmp_path / "view.html")
    path.write_text(
        path.read_text(encoding="utf8").replace("window.DecompressionStream", "window.Missing"), encoding="utf8"
    )
    open_file(browser, path)
    page = ViewerPage(browser)
    assert "cannot decompress the data" in page.text("#status")
