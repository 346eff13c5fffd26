"""The viewer inside a running JupyterLab."""

from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.viz.text_heads import random_heads

pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.keys import Keys

from tests.viz.viewer_page import ViewerPage, agree, row_maximum, wanted_values

if TYPE_CHECKING:
    from tests.jupyterlab import JupyterLab

CELLS = {
    "setup": "import ih_lens as ih\nfrom tests.viz.text_heads import random_heads",
    "view": "ih.viz.induction_view(random_heads()[0], height=640)",
}
HEADS, PATTERNS, ATTRIBUTIONS = random_heads()
MATRICES = {"pattern": PATTERNS, "attribution": ATTRIBUTIONS}
FIRST = max(range(3), key=lambda place: HEADS.scores["prefix_matching"][place])


def test_the_view_answers_in_jupyterlab(jupyterlab: "JupyterLab") -> None:
    with jupyterlab.run(CELLS) as notebook, notebook.frame("view") as browser:
        page = ViewerPage(browser).ready()
        chosen = {kind: matrix[FIRST] for kind, matrix in MATRICES.items()}
        for selected in (3, 7):
            page.hover(selected)
            agree(page, chosen, selected, "destination")
        page.click(7)
        page.hover(2)
        assert (page.selected, page.locked) == (7, True)
        for kind, matrix in chosen.items():
            wanted = wanted_values(kind, matrix, 7, "destination")
            rows = row_maximum(kind, matrix, 7, "destination")
            for found, value, row in zip(page.numbers(kind), wanted, rows, strict=True):
                assert found == pytest.approx(value, abs=row / 255 + 5e-4 * abs(value), nan_ok=True)
        other = (FIRST + 1) % 3
        page.button(f"#head-{other}")
        page.shows(f"L1H{other}")
        agree(page, {kind: matrix[other] for kind, matrix in MATRICES.items()}, 7, "destination")
        page.press(Keys.ESCAPE)
        assert (page.selected, page.locked) == (None, False)
        page.hover(5)
        assert page.selected == 5
        page.press("s")
        agree(page, {kind: matrix[other] for kind, matrix in MATRICES.items()}, 5, "source")


def test_a_notebook_opened_again_shows_the_view_once_it_is_trusted(jupyterlab: "JupyterLab") -> None:
    """As after `jupyter trust`: nothing is run, the saved output itself answers."""
    from ih_lens import viz

    shown = nbformat.v4.new_output(
        "display_data", {"text/html": viz.induction_view(HEADS)._repr_html_(), "text/plain": "view"}
    )
    cell = nbformat.v4.new_code_cell("pass", id="view", outputs=[shown], metadata={"trusted": True})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    with jupyterlab.opened(notebook) as opened:
        trust = "window.opened.content.widgets.forEach((cell) => cell.model.trusted = true)"
        opened.browser.execute_script(trust)
        with opened.frame("view") as browser:
            page = ViewerPage(browser).ready()
            page.hover(7)
            agree(page, {kind: matrix[FIRST] for kind, matrix in MATRICES.items()}, 7, "destination")
