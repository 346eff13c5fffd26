"""The same numbers bit for bit on one machine: whatever the caller set, whichever process, order and folder."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.report.settings import TableSettings
from tests.report.conftest import train_tiny
from tests.report.test_backends import contents

ROOT = Path(__file__).parents[1]
SETTINGS = TableSettings(n_examples=8)
NAMES = ["1L", "2L"]


@contextmanager
def set_inside(change: Callable[[Any], object], inside: Any, after: Any) -> Iterator[None]:
    change(inside)
    try:
        yield
    finally:
        change(after)


@contextmanager
def switched_on(change: Any) -> Iterator[None]:
    with change:
        yield


CALLERS = {
    "seed": lambda: set_inside(torch.manual_seed, 99, 0),
    "float64 by default": lambda: set_inside(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16 by default": lambda: set_inside(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "matmul precision": lambda: set_inside(torch.set_float32_matmul_precision, "medium", "highest"),
    "deterministic algorithms": lambda: set_inside(torch.use_deterministic_algorithms, True, False),
    "flush denormal": lambda: set_inside(torch.set_flush_denormal, True, False),
    "autocast": lambda: switched_on(torch.autocast("cpu", torch.bfloat16)),
    "inference mode": lambda: switched_on(torch.inference_mode()),
    "no gradients": lambda: switched_on(torch.no_grad()),
    "another default device": lambda: switched_on(torch.device("meta")),
    "threads": lambda: set_inside(torch.set_num_threads, 2, 1),
}
"""What other code of a notebook may have set."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    for n_layers, name in enumerate(NAMES, start=1):
        train_tiny(made / name, n_layers)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written(folder, tmp_path_factory.mktemp("expected"))


def written(runs: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Everything that a table leaves: measurements, page and saved numbers."""
    table = ih.ModelAnalysisTable.from_runs(
        [runs / name for name in NAMES], settings=SETTINGS, store=out / "store", progress=False, **options
    )
    return files_of(table, out)


def files_of(table: ih.ModelAnalysisTable, out: Path) -> dict[str, Any]:
    table.to_html(out / "table.html")
    table.save(out / "table.zarr")
    files = [out / "table.html", *sorted(file for file in (out / "table.zarr").rglob("*") if file.is_file())]
    hashes = {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"store": contents(out / "store"), **hashes}


# torch 2.9 asks callers to set this in another way, once in a process
@pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32")
def test_what_the_caller_set_changes_no_table(folder: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """All of it at once."""
    with ExitStack() as stack:
        for caller in CALLERS.values():
            stack.enter_context(caller())
        assert written(folder, tmp_path) == expected


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32")
def test_what_the_caller_set_changes_no_single_measure(caller: str, folder: Path) -> None:
    model = ih.open_run(folder / "2L").snapshots[-1].load()
    evals = ih.EvalSet.from_tokens(ih.open_run(folder / "2L").held_out, seed=0)
    before = measured(model, evals)
    with CALLERS[caller]():
        assert measured(model, evals) == before


def measured(model: Any, evals: ih.EvalSet) -> list[bytes]:
    results = [
        ih.score_heads(model, seed=0).dataset,
        ih.token_losses(model, evals, progress=False).dataset,
        *(ih.ablate_heads(model, evals, kind=kind, progress=False).dataset for kind in ("full", "pattern_preserving")),
    ]
    arrays = [result[name].to_numpy() for result in results for name in sorted(map(str, result.data_vars))]
    arrays += [ih.logit_attribution(model, evals.tokens[:2]).numpy(), ih.composition_scores(model).to_numpy()]
    return [array.tobytes() for array in arrays if array.dtype.kind in "fiub"]


def test_asked_again_and_in_halves(folder: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """What is stored and what is taken now are the same; so is a run measured while it was half trained."""
    half = shutil.copytree(folder, tmp_path / "half")
    for snapshot in (half / "2L" / "snapshots").glob("step_0000000[4-9]"):
        shutil.rmtree(snapshot)
    ih.ModelAnalysisTable.from_runs([half / "2L"], settings=SETTINGS, store=tmp_path / "store", progress=False)
    assert written(folder, tmp_path) == expected
    assert written(folder, tmp_path) == expected
    reverse = [folder / name for name in reversed(NAMES)]
    ih.ModelAnalysisTable.from_runs(reverse, settings=SETTINGS, store=tmp_path / "other", progress=False)
    assert contents(tmp_path / "other") == expected["store"]


CODE = """
import json, os, sys
from pathlib import Path
import torch
from ih_lens.parallel import torch_threads
from tests.report.conftest import train_tiny
from tests.test_determinism import written
if __name__ == "__main__":
    out = Path(sys.argv[1])
    with torch_threads(1):
        train_tiny(out / "trained", 2)
    with open(out / "said.json", "w") as file:
        json.dump({"threads": torch.get_num_threads()}, file)
    (out / "table").mkdir()
    Path(out / "hashes.json").write_text(json.dumps(
        {name: hash for name, hash in written(out / "runs", out / "table", workers=2).items() if name != "store"}
    ))
"""


def test_another_process_folder_and_number_of_workers(folder: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """Other addresses in memory, hash seed, threads, working directory and place of the runs; weights are the same."""
    shutil.copytree(folder, tmp_path / "runs")
    script = tmp_path / "script.py"
    script.write_text(CODE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "77"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "said.json").read_text()) == {"threads": min(2, os.cpu_count() or 1)}
    assert contents(tmp_path / "table" / "store") == expected["store"]
    hashes = json.loads((tmp_path / "hashes.json").read_text())
    assert hashes == {name: value for name, value in expected.items() if name != "store"}
    assert str(tmp_path) not in (tmp_path / "table" / "table.html").read_text()
    trained = ih.open_run(tmp_path / "trained").snapshots[-1]
    assert trained.weights_hash == ih.open_run(folder / "2L").snapshots[-1].weights_hash
