"""What people see in a running JupyterLab: outputs are drawn, and their values can be read off the page."""

import re
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("selenium.webdriver")
pytest.importorskip("jupyterlab")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.jupyterlab import PATIENCE, JupyterLab, OpenNotebook, running_jupyterlab

IMPORT = """
from pathlib import Path

import numpy as np, torch, xarray as xr
import ih_lens as ih
from tests.report.conftest import SETTINGS, train_tiny
from tests.viz.test_attention_heads import TOKENS, patterns
"""
FIGURE = """
losses = xr.DataArray(np.array([5.0, 3.0, 1.0]), dims="snapshot", coords={"tokens_elapsed": ("snapshot", [0, 10, 20])})
ih.viz.plot_loss({"my model": losses})
"""
SCORES = """
ih.HeadScores.from_tensors({"prefix_matching": torch.tensor([[0.25, 0.75], [0.125, 0.5]])})
"""
TABLE = """
run = train_tiny(Path("runs/tiny"), 1)
table = ih.ModelAnalysisTable.from_runs({"plain": [run]}, settings=SETTINGS, store=Path("store"), progress=False)
(name,) = table.models
print(f"{name}|{float(table.dataset(name)['in_context_learning_score'][-1]):.2f}")
"""
HEADS = """
scores = xr.DataArray([[1, 2], [4, 3]], dims=("layer", "head"))
ih.viz.attention_heads(patterns(2, 2), TOKENS, scores=scores)
"""
CELLS = {
    "import": IMPORT,
    "figure": FIGURE,
    "scores": SCORES,
    "table": TABLE,
    "summary": "table",
    "heads": HEADS,
    "more-heads": "ih.viz.attention_heads(patterns(1), TOKENS, heads=['L7H7'])",
    "tokens": "ih.viz.coloured_tokens(TOKENS, torch.linspace(-1, 1, len(TOKENS)), unit='nats')",
}
NETWORK = {
    "image": "from IPython.display import HTML; HTML('<img src=https://example.org/image.png>')",
    "frame": """HTML("<iframe srcdoc='<script src=//example.org/script.js></script>'></iframe>")""",
    "kernel": """
import socket
try:
    socket.socket().connect(("192.0.2.1", 80))
except PermissionError as error:
    print(error)
""",
}


def test_all_kinds_of_outputs_are_shown(jupyterlab: JupyterLab) -> None:
    with jupyterlab.run(CELLS) as notebook:
        check_figure(notebook)
        check_scores(notebook)
        check_table(notebook)
        check_attention_heads(notebook)
        check_coloured_tokens(notebook)


def check_figure(notebook: OpenNotebook) -> None:
    assert notebook.wait_for("figure", ".js-plotly-plot .scatterlayer path.js-line").is_displayed()
    shown = notebook.wait_for("figure", ".js-plotly-plot")
    drawn = notebook.browser.execute_script("return arguments[0].calcdata.at(-1).map((point) => point.y)", shown)
    assert drawn == [5, 3, 1]
    assert "my model" in shown.text


def check_scores(notebook: OpenNotebook) -> None:
    scores = notebook.wait_for("scores", ".xr-wrap")
    scores.find_element(By.CSS_SELECTOR, "label[title='Show/Hide data repr']").click()
    assert {0.25, 0.75, 0.125, 0.5} <= {float(number) for number in re.findall(r"0\.\d+", scores.text)}


def check_table(notebook: OpenNotebook) -> None:
    name, score = notebook.wait_for("table", "pre").text.strip().split("|")
    text = notebook.wait_for("summary", "table").text
    assert name in text
    assert f"{score} ± " in text


def check_attention_heads(notebook: OpenNotebook) -> None:
    with notebook.frame("heads") as browser:
        WebDriverWait(browser, PATIENCE).until(lambda page: len(page.find_elements(By.TAG_NAME, "canvas")) == 5)
        assert [name.text for name in browser.find_elements(By.TAG_NAME, "h4")] == ["L1H0", "L1H1", "L0H1", "L0H0"]
        ActionChains(browser).move_to_element(browser.find_elements(By.TAG_NAME, "canvas")[2]).perform()
        assert browser.find_elements(By.TAG_NAME, "h3")[1].text == "L0H1 Zoomed"
        height = browser.execute_script("return document.body.getBoundingClientRect().height")
        WebDriverWait(browser, PATIENCE).until(
            lambda page: page.execute_script("return innerHeight") >= height, "grows"
        )
    with notebook.frame("more-heads") as browser:
        WebDriverWait(browser, PATIENCE).until(lambda page: page.find_elements(By.TAG_NAME, "canvas"))
        assert browser.find_element(By.TAG_NAME, "h4").text == "L7H7"


def check_coloured_tokens(notebook: OpenNotebook) -> None:
    tokens = notebook.output("tokens").find_elements(By.CSS_SELECTOR, ".t")
    assert [token.text for token in tokens][:4] == ["<s>", "·the", "↵", "·é"]
    assert tokens[0].value_of_css_property("background-color") == "rgba(242, 153, 74, 1)"
    ActionChains(notebook.browser).move_to_element(tokens[1]).perform()
    said = notebook.browser.execute_script("return getComputedStyle(arguments[0], '::after').content", tokens[1])
    assert "value −0.714 nats" in said


def test_errors_are_noticed(jupyterlab: JupyterLab) -> None:
    cells = {"first": "1 + 1", "second": "1 / 0"}
    with pytest.raises(AssertionError, match="cell second raised ZeroDivisionError"), jupyterlab.run(cells):
        pass


def test_the_network_is_noticed(jupyterlab: JupyterLab) -> None:
    with pytest.raises(AssertionError) as raised, jupyterlab.run(NETWORK):
        pass
    for address in ("https://example.org/image.png", "http://example.org/script.js", "socket.connect 192.0.2.1"):
        assert address in str(raised.value)


def _command(process: psutil.Process) -> list[str]:
    """Empty for what has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_nothing_is_left_running(browser: Any, tmp_path: Path) -> None:
    with running_jupyterlab(tmp_path, browser) as lab, lab.run({"only": "print(1 + 1)"}) as notebook:
        assert notebook.wait_for("only", "pre").text == "2"
        started = [
            process for process in psutil.Process().children(True) if str(tmp_path) in " ".join(_command(process))
        ]
        assert len(started) == 2, "a server and a kernel"
        assert len(lab.kernels()) == 1
    assert not any(process.is_running() for process in started)
