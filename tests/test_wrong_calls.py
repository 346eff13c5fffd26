"""Every wrong call gives one of our errors, with a message that says what to do, and never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ih_lens import errors
from tests import wrong_calls

ROOT = Path(__file__).parents[1]
OURS = {name for name in vars(errors) if name.endswith("Error")}


@pytest.fixture(scope="module")
def given() -> dict[str, tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.wrong_calls", "json"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {call: (kind, text) for call, (kind, text) in json.loads(done.stdout.splitlines()[-1]).items()}


OLDER_TYPER = {
    "'fast' is not a valid float": "Input should be a valid number, unable to parse string as a number",
    "Missing argument 'RUNS...'": "Missing argument 'runs'",
    "0 is not in the range x>=1": "Input should be greater than or equal to 1",
}
"""The same in the words of versions before the one that the page was written with."""


@pytest.mark.parametrize("call", wrong_calls.LIBRARY)
def test_the_library_explains(call: str, given: dict[str, tuple[str, str]]) -> None:
    kind, text = given[call]
    assert kind in OURS, f"{call} gave {kind}: {text}"
    assert len(text) > 30


@pytest.mark.parametrize("call", wrong_calls.COMMAND_LINE)
def test_the_command_line_explains(call: str, given: dict[str, tuple[str, str]]) -> None:
    kind, text = given[f"ih-lens {call}"]
    assert kind == "exit 2", text
    assert text.startswith("ih-lens: ")
    assert "Traceback" not in text


def test_the_documentation_shows_them_as_they_are(given: dict[str, tuple[str, str]]) -> None:
    page = wrong_calls.page(given)
    for words in OLDER_TYPER.items():
        page = page.replace(*words)
    assert (ROOT / "docs" / "wrong-calls.md").read_text(encoding="utf8") == page, "run `python -m tests.wrong_calls`"
