"""What people see in a running JupyterLab: outputs are drawn, and their values can be read off the page."""

import re
from pathlib import Path
from typing import Any

import psutil
import pytest
from selenium.webdriver.common.by import By

from tests.jupyterlab import JupyterLab, running_jupyterlab

FIRST = """
import numpy as np, torch, xarray as xr
import ih_lens as ih
"""
FIGURE = """
losses = xr.DataArray(np.array([5.0, 3.0, 1.0]), dims="snapshot", coords={"tokens_elapsed": ("snapshot", [0, 10, 20])})
ih.viz.plot_loss({"my model": losses})
"""
SCORES = """
ih.HeadScores.from_tensors({"prefix_matching": torch.tensor([[0.25, 0.75], [0.125, 0.5]])})
"""
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


def test_figures_and_results_are_shown(jupyterlab: JupyterLab) -> None:
    with jupyterlab.run({"import": FIRST, "figure": FIGURE, "scores": SCORES}) as notebook:
        plot = notebook.wait_for("figure", ".js-plotly-plot .scatterlayer path.js-line")
        shown = notebook.wait_for("figure", ".js-plotly-plot")
        drawn = notebook.browser.execute_script("return arguments[0].calcdata.at(-1).map((point) => point.y)", shown)
        assert plot.is_displayed()
        assert drawn == [5, 3, 1]
        assert "my model" in shown.text
        scores = notebook.wait_for("scores", ".xr-wrap")
        scores.find_element(By.CSS_SELECTOR, "label[title='Show/Hide data repr']").click()
        values = [float(number) for number in re.findall(r"0\.\d+", scores.text)]
        assert {0.25, 0.75, 0.125, 0.5} <= set(values)


def test_errors_are_noticed(jupyterlab: JupyterLab) -> None:
    cells = {"first": "1 + 1", "second": "1 / 0"}
    with pytest.raises(AssertionError, match="cell second raised ZeroDivisionError"), jupyterlab.run(cells):
        pass


def test_the_network_is_noticed(jupyterlab: JupyterLab) -> None:
    with pytest.raises(AssertionError) as raised, jupyterlab.run(NETWORK):
        pass
    for address in ("https://example.org/image.png", "http://example.org/script.js", "socket.connect 192.0.2.1"):
        assert address in str(raised.value)


def test_nothing_is_left_running(browser: Any, tmp_path: Path) -> None:
    with running_jupyterlab(tmp_path, browser) as lab, lab.run({"only": "print(1 + 1)"}) as notebook:
        assert notebook.wait_for("only", "pre").text == "2"
        before = psutil.Process().children(recursive=True)
        started = [process for process in before if str(tmp_path) in " ".join(process.cmdline())]
        assert len(started) == 2, "a server and a kernel"
        assert len(lab.kernels()) == 1
    assert not any(process.is_running() for process in started)
