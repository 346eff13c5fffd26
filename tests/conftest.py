"""Settings of all tests: one thread (small matrices, and xdist runs files side by side), no network.

Fixtures: `browser`, a headless Chromium, and `jupyterlab`, a running JupyterLab in it; one of each per process.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if TYPE_CHECKING:
    from selenium import webdriver

    from tests.docs_names import Prepared
    from tests.jupyterlab import JupyterLab

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    """Headless Chromium without network, see tests/browser.py."""
    pytest.importorskip("selenium.webdriver")
    from tests.browser import chromium

    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="session")
def jupyterlab(browser: "webdriver.Chrome", tmp_path_factory: pytest.TempPathFactory) -> Iterator["JupyterLab"]:
    """A running JupyterLab, see tests/jupyterlab.py."""
    pytest.importorskip("jupyterlab")
    from tests.jupyterlab import running_jupyterlab

    with running_jupyterlab(tmp_path_factory.mktemp("jupyterlab"), browser) as lab:
        yield lab


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Prepared"]:
    """What the documentation takes as given, and a hub that serves stand-ins under the names in it."""
    from tests.docs_names import Prepared, fill
    from tests.models.hub_stand_in import connect, forget_connections, serving

    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch, serving() as hub:
        fill(hub, folder / "hub")
        connect(patch, hub, folder / "hf")
        yield Prepared(folder)
    forget_connections()
