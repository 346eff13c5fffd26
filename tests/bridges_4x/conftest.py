"""These tests are of transformer-lens 4.x; where an older one is installed, there is nothing to collect.

`make test-bridges` runs them, with `IH_LENS_REFERENCE` naming the folder in which 3.9 left its numbers.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.bridges_4x.measured import Measured

if int(version("transformer-lens").split(".")[0]) < 4:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def reference() -> Path:
    """What 3.9 wrote."""
    folder = os.environ.get("IH_LENS_REFERENCE")
    if folder is None:
        pytest.fail("IH_LENS_REFERENCE is not set; run `make test-bridges`")
    return Path(folder)


@pytest.fixture(scope="session")
def expected(reference: Path) -> "dict[tuple[str, str], Measured]":
    """The numbers of 3.9, by kind and call."""
    from tests.bridges_4x.measured import read

    return read(reference)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One bridge of every kind."""
    from tests.bridges_4x.models import KINDS, make_model

    return {kind: make_model(kind, tmp_path_factory.mktemp("saved") / "model") for kind in KINDS}
