"""What is paid before anything is measured: importing the package, listing its names, the program's help."""

import json
import subprocess
import sys

import ih_lens as ih

HEAVY = {"torch", "transformer_lens", "transformers", "numpy", "pandas", "plotly", "scipy", "sklearn", "xarray", "zarr"}
MOST_SECONDS = 0.5
"""Of processor time, many times what it takes: a slow machine stays below, an import of torch does not."""


def _after(code: str) -> tuple[set[str], float]:
    """Which heavy libraries a new interpreter has loaded after some code, and the processor time that it took."""
    timed = (
        "import json, sys, time\n"
        "began = time.process_time()\n"
        f"{code}\n"
        f"print(json.dumps([sorted({HEAVY!r} & set(sys.modules)), time.process_time() - began]))\n"
    )
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True, timeout=120)
    loaded, seconds = json.loads(done.stdout.splitlines()[-1])
    return set(loaded), seconds


def _best_of_three(code: str) -> float:
    for _ in range(3):
        loaded, seconds = _after(code)
        assert loaded == set()
        if seconds < MOST_SECONDS:
            break
    return seconds


def test_importing_is_light() -> None:
    assert _best_of_three("import ih_lens") < MOST_SECONDS


def test_listing_names_is_light() -> None:
    assert _best_of_three("import ih_lens; dir(ih_lens); ih_lens.__version__") < MOST_SECONDS


def test_help_is_light() -> None:
    code = "sys.argv = ['ih-lens', '--help']\nfrom ih_lens.cli import main\nmain()"
    assert _best_of_three(code) < 2 * MOST_SECONDS


def test_using_a_name_loads_what_it_needs() -> None:
    loaded, _ = _after("import ih_lens; ih_lens.phase_change")
    assert "numpy" in loaded
    assert "transformer_lens" not in loaded


def test_every_name_is_listed() -> None:
    assert {"__version__", "load_model", "score_heads", "viz"} <= set(dir(ih))
