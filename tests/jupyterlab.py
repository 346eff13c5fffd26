"""A real JupyterLab for tests: a server of its own, notebooks opened and run in headless Chromium.

    def test_shown(jupyterlab: JupyterLab) -> None:
        with jupyterlab.run({"figure": "import ih_lens as ih; ..."}) as notebook:
            assert notebook.output("figure").text == "..."
            with notebook.frame("figure") as browser:
                browser.find_element(...)

Everything that Jupyter and IPython write lies in a temporary folder, nothing outside this machine is contacted by
page or kernel (checked when the notebook is left), and no process outlives the fixture.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import foreign, requested

ROOT = Path(__file__).parents[1]
PATIENCE = 180
"""Seconds that anything may take: two busy cores start a server, a browser and a kernel slowly."""

SERVER = {
    "ServerApp": {
        "ip": "127.0.0.1",
        "port_retries": 0,
        "open_browser": False,
        "allow_root": True,
        "terminals_enabled": False,
        "shutdown_no_activity_timeout": 900,
        "jpserver_extensions": {"jupyter_lsp": False, "jupyterlab_jupytext": False, "jupyter_server_terminals": False},
    },
    "PasswordIdentityProvider": {"hashed_password": ""},
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    },
    "MappingKernelManager": {"cull_idle_timeout": 600, "cull_connected": True},
}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "docmanager-extension/plugin": {"autosave": False},
}
"""Every cell is drawn, also those out of sight."""
DISABLED = {"disabledExtensions": {"@jupyterlab/extensionmanager-extension": True}}

NO_NETWORK = """
import sys
from pathlib import Path

def _refuse(event, arguments, log=Path({log!r})):
    host = None
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    if host not in (None, "", "127.0.0.1", "::1", "localhost"):
        with log.open("a") as file:
            file.write(f"{{event}} {{host}}\\n")
        raise PermissionError(f"no network in tests: {{host}}")

sys.addaudithook(_refuse)
del _refuse
"""
"""Run by every kernel before its first cell."""

READY = """
const app = window.jupyterapp;
const shown = app && app.shell ? [...app.shell.widgets('main')] : [];
const widget = shown.find((each) => each.context && each.context.path === arguments[0]);
const session = widget && widget.context.isReady && widget.context.sessionContext.session;
if (!session || !session.kernel || session.kernel.status !== 'idle') return false;
window.opened = widget;
app.shell.activateById(widget.id);
return true;
"""
"""Whether the notebook of this path is open with a kernel that waits; it is then the one that commands go to."""
RUN = """
const done = arguments[arguments.length - 1];
window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => done(null), (error) => done(String(error)));
"""
CELLS = "window.opened.content.widgets.filter((cell) => cell.model.type === 'code')"
STATE = f"""
const finished = window.opened.context.sessionContext.session.kernel.status === 'idle'
  && {CELLS}.every((cell) => cell.model.executionCount !== null);
const outputs = {CELLS}.map((cell) => [cell.model.id, cell.model.outputs.toJSON()]);
const failed = outputs.flatMap(([id, all]) => all.filter((output) => output.output_type === 'error')
  .map((output) => [id, output.ename + ': ' + output.evalue + '\\n' + output.traceback.join('\\n')]));
return {{finished, failed}};
"""
OUTPUT = f"return {CELLS}.find((cell) => cell.model.id === arguments[0]).outputArea.node"


@dataclass(frozen=True)
class OpenNotebook:
    """A notebook that has been run and is looked at in the browser."""

    browser: webdriver.Chrome

    def output(self, cell: str) -> WebElement:
        """The output area of one cell, scrolled into view."""
        found = self.browser.execute_script(OUTPUT, cell)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", found)
        return found

    def wait_for(self, cell: str, selector: str) -> WebElement:
        """The first match inside a cell's output, once it is there."""
        WebDriverWait(self.browser, PATIENCE).until(
            lambda _: self.output(cell).find_elements(By.CSS_SELECTOR, selector), f"{selector} in {cell}"
        )
        return self.output(cell).find_element(By.CSS_SELECTOR, selector)

    @contextmanager
    def frame(self, cell: str) -> Iterator[webdriver.Chrome]:
        """The browser inside the <iframe> of a cell's output."""
        self.browser.switch_to.frame(self.wait_for(cell, "iframe"))
        try:
            yield self.browser
        finally:
            self.browser.switch_to.default_content()


@dataclass(frozen=True)
class JupyterLab:
    """A running server and a browser."""

    url: str
    token: str
    folder: Path
    browser: webdriver.Chrome

    @contextmanager
    def run(self, cells: Mapping[str, str]) -> Iterator[OpenNotebook]:
        """Open a notebook of these cells (id: source) and run all of them.

        Raises:
            AssertionError: if a cell raised, or page or kernel wanted to contact another machine.
        """
        made = [nbformat.v4.new_code_cell(source, id=ident) for ident, source in cells.items()]
        with self.opened(nbformat.v4.new_notebook(cells=made)) as notebook:
            refused = self.browser.execute_async_script(RUN)
            require(not refused, f"the notebook was not run: {refused}")
            WebDriverWait(self.browser, PATIENCE).until(lambda page: page.execute_script(STATE)["finished"], "run")
            failed = self.browser.execute_script(STATE)["failed"]
            require(not failed, "\n".join(f"cell {ident} raised {error}" for ident, error in failed))
            yield notebook

    @contextmanager
    def opened(self, notebook: Any) -> Iterator[OpenNotebook]:
        """Show a notebook as it is, with a kernel but without running anything."""
        path = self._unused()
        nbformat.write(notebook, path)
        requested(self.browser)  # what was asked for before is not this notebook's
        self._refused_connections()
        self.browser.get(f"{self.url}lab/tree/{path.name}?reset&token={self.token}")
        WebDriverWait(self.browser, PATIENCE).until(lambda page: page.execute_script(READY, path.name), "kernel")
        try:
            yield OpenNotebook(self.browser)
            asked = requested(self.browser)
            require(any(address.startswith(self.url) for address in asked), "requests were not recorded")
            wanted = foreign(asked) + self._refused_connections()
            require(not wanted, f"page or kernel wanted to reach {wanted}")
        finally:
            self.browser.switch_to.default_content()
            self.browser.get("about:blank")
            for session in self._api("sessions"):
                self._api(f"sessions/{session['id']}", method="DELETE")

    def kernels(self) -> list[Any]:
        """Those that are running."""
        return self._api("kernels")

    def _unused(self) -> Path:
        notebooks = self.folder / "notebooks"
        return notebooks / f"notebook_{len(list(notebooks.glob('*.ipynb')))}.ipynb"

    def _refused_connections(self) -> list[str]:
        """What kernels wanted since the last call."""
        log = self.folder / "connections.log"
        lines = log.read_text(encoding="utf8").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def _api(self, path: str, method: str = "GET") -> Any:
        return call(f"{self.url}api/{path}", self.token, method)


def require(condition: bool, message: str) -> None:
    """An assertion that says more, as this is no test module."""
    if not condition:
        raise AssertionError(message)


def call(address: str, token: str, method: str = "GET") -> Any:
    """One request to the server."""
    request = urllib.request.Request(address, method=method, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read() or b"null")


@contextmanager
def running_jupyterlab(folder: Path, browser: webdriver.Chrome) -> Iterator[JupyterLab]:
    """A JupyterLab that keeps everything in one folder and leaves no process behind."""
    environment, token, port = write_configuration(folder), secrets.token_hex(16), free_port()
    environment["JUPYTER_TOKEN"] = token
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder}/notebooks",
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder / "notebooks")
        try:
            url = f"http://127.0.0.1:{port}/"
            wait_until_it_answers(server, url, token, folder / "server.log")
            yield JupyterLab(url, token, folder, browser)
        finally:
            stop(server)


def write_configuration(folder: Path) -> dict[str, str]:
    """Settings in files, and the environment that points to them."""
    startup = folder / "ipython" / "profile_default" / "startup" / "00-no-network.py"
    files = {
        folder / "config" / "jupyter_lab_config.json": json.dumps(SERVER),
        folder / "config" / "labconfig" / "page_config.json": json.dumps(DISABLED),
        startup: NO_NETWORK.format(log=str(folder / "connections.log")),
    }
    for plugin, values in SETTINGS.items():
        files[folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"] = json.dumps(values)
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf8")
    (folder / "notebooks").mkdir()
    return {
        **os.environ,
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(server: "subprocess.Popen[bytes]", url: str, token: str, log: Path) -> None:
    """Ask until there is an answer; says what the server wrote if it ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        require(server.poll() is None, log.read_text(encoding="utf8"))
        try:
            call(f"{url}api/status", token)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(log.read_text(encoding="utf8"))


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End the server and its kernels: politely first, then for certain."""
    children = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    _, left = psutil.wait_procs(children, timeout=10)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
