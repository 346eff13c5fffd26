"""Headless Chromium for tests, with no network; `browser` in conftest.py is one for all tests of a process."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1500,1000",
]
LOCAL_SCHEMES = {"file", "data", "blob", "about", "chrome", "chrome-extension", "devtools"}


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser that keeps everything in one folder; the test is skipped where none is installed.

    With IH_LENS_REQUIRE_BROWSER=1, as in `.ci/run`, the test fails instead.
    """
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver_program):
        if os.environ.get("IH_LENS_REQUIRE_BROWSER") == "1":
            pytest.fail("chromium and chromedriver are not installed, but IH_LENS_REQUIRE_BROWSER=1 asks for them")
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    try:
        driver.set_script_timeout(240)
        driver.set_page_load_timeout(240)
        yield driver
    finally:
        driver.quit()


def open_file(browser: webdriver.Chrome, path: Path, ready: str = "true") -> None:
    """Show a file and wait until it is there whole and an expression of JavaScript holds in it.

    `get` alone returns early now and then where a page before this one has not ended.
    """
    browser.get(path.as_uri())
    script = f"return location.href === arguments[0] && document.readyState === 'complete' && Boolean({ready})"
    WebDriverWait(browser, 60).until(lambda page: page.execute_script(script, path.as_uri()))


def requested(browser: webdriver.Chrome) -> list[str]:
    """Every address that the page and its frames asked for since the last call, sockets included."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    found = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return found + [event["params"]["url"] for event in events if event["method"] == "Network.webSocketCreated"]


def foreign(addresses: list[str]) -> list[str]:
    """Those that are not on this machine."""
    parts = [(address, urlsplit(address)) for address in addresses]
    return [
        address
        for address, part in parts
        if part.scheme not in LOCAL_SCHEMES and part.hostname != "127.0.0.1" and address
    ]
