"""The page in a real browser, from a file, with no network."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ih_lens.report.rows import PAPER_ROWS
from ih_lens.report.table import ModelAnalysisTable
from tests.report.test_page import HOSTILE, hostile

if TYPE_CHECKING:
    from selenium import webdriver


def open_page(browser: "webdriver.Chrome", path: Path) -> None:
    """Open a file and wait until every figure is drawn."""
    from tests.browser import open_file

    browser.get_log("browser")  # what other pages said
    open_file(browser, path, "document.documentElement.dataset.drawn")


def test_the_page_draws_itself_offline(browser: "webdriver.Chrome", table: ModelAnalysisTable, tmp_path: Path) -> None:
    open_page(browser, table.to_html(tmp_path / "table.html"))
    script = (
        "return [...document.querySelectorAll('.figure .subplot')].filter((part) => part.querySelector(arguments[0]))"
    )
    panels = browser.execute_script(f"{script}.length", "*")
    drawn = browser.execute_script(f"{script}.length", "path.js-line, .heatmaplayer image")
    maps = browser.execute_script(f"{script}.length", ".heatmaplayer image")
    members = [name for names in table.series.values() for name in names]
    known = [row.name for row in PAPER_ROWS for name in members if row.name in table.dataset(name)]
    undefined = sum(bool(table.dataset(name)["qk_eigenvalue_trace"].isnull().all()) for name in members)
    assert panels == len(members) * len(PAPER_ROWS)
    assert drawn == len(known) - undefined
    assert maps == 2 * len(members)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.get_log("browser") == []


def test_columns_stand_below_their_names(
    browser: "webdriver.Chrome", table: ModelAnalysisTable, tmp_path: Path
) -> None:
    open_page(browser, table.to_html(tmp_path / "table.html"))
    script = "return [...document.querySelectorAll(arguments[0])].map((part) => part.getBoundingClientRect().left)"
    names = browser.execute_script(script, "#series-0 .model")
    for number in range(len(PAPER_ROWS)):
        panels = browser.execute_script(script, f"#series-0 .row:nth-of-type({number + 3}) .draglayer .nsewdrag")
        assert panels == pytest.approx(names, abs=2)


def test_a_definition_is_one_click_away(browser: "webdriver.Chrome", table: ModelAnalysisTable, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    open_page(browser, table.to_html(tmp_path / "table.html"))
    row = browser.find_element(By.CSS_SELECTOR, '[data-row="prefix_matching"]')
    definition = row.find_element(By.CSS_SELECTOR, ".definition")
    assert not definition.is_displayed()
    row.find_element(By.TAG_NAME, "summary").click()
    assert definition.is_displayed()
    assert "from 0 to 1" in definition.text
    browser.find_element(By.TAG_NAME, "h1").click()
    assert not definition.is_displayed()


def test_hostile_names_do_nothing(browser: "webdriver.Chrome", table: ModelAnalysisTable, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    open_page(browser, hostile(table).to_html(tmp_path / "table.html", title=HOSTILE))
    assert browser.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert browser.find_element(By.CSS_SELECTOR, ".model strong").text == HOSTILE
    assert browser.execute_script("return document.querySelectorAll('main img[src]').length") == 0
    assert browser.get_log("browser") == []
