"""Takes every call on every model with the installed transformer-lens, and compares with what another version gave.

    python -m tests.bridges_4x.measured FOLDER

writes the numbers into a folder; with 3.9 also a run, a table and results, which 4.x must be able to read.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ih_lens as ih
from ih_lens.models.hooked_transformer import HAS_HOOKED_TRANSFORMER
from tests.bridges_4x.calls import CALLS, numbers_of
from tests.bridges_4x.models import KINDS, make_model

NUMBERS, REFUSED = "numbers.npz", "refused.json"


@dataclass(frozen=True)
class Measured:
    """What one call gave on one kind of model: numbers, or the reason why there are none."""

    numbers: dict[str, np.ndarray]
    refused: str | None = None


def measure(model: Any, call: str) -> Measured:
    """Take one call."""
    try:
        return Measured(numbers_of(CALLS[call](model)))
    except ih.CapabilityError as reason:
        return Measured({}, str(reason))


def difference(found: Measured, reference: Measured) -> float:
    """The largest difference of any number, as a share of the largest of its kind; infinite where one has more."""
    if found.numbers.keys() != reference.numbers.keys():
        return float("inf")
    return max(_difference(found.numbers[name], values) for name, values in reference.numbers.items())


def _difference(found: np.ndarray, reference: np.ndarray) -> float:
    if found.shape != reference.shape or not np.array_equal(np.isfinite(found), np.isfinite(reference)):
        return float("inf")
    finite = np.isfinite(reference)
    largest = np.abs(reference[finite]).max(initial=0.0)
    return float(np.abs(found - reference)[finite].max(initial=0.0) / max(1.0, largest))


def write(folder: Path) -> None:
    """Measure everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as saved:
            model = make_model(kind, Path(saved) / "model")
            for call in CALLS:
                found = measure(model, call)
                numbers |= {f"{kind}:{call}:{name}": values for name, values in found.numbers.items()}
                if found.refused is not None:
                    refused[f"{kind}:{call}"] = found.refused
    np.savez_compressed(folder / NUMBERS, **numbers)
    (folder / REFUSED).write_text(json.dumps(refused), encoding="utf8")
    if HAS_HOOKED_TRANSFORMER:
        _write_results(folder)


def read(folder: Path) -> dict[tuple[str, str], Measured]:
    """What `write` wrote, by kind and call."""
    refused: dict[str, str] = json.loads((folder / REFUSED).read_text(encoding="utf8"))
    found = {(kind, call): Measured({}, refused.get(f"{kind}:{call}")) for kind in KINDS for call in CALLS}
    with np.load(folder / NUMBERS) as stored:
        for key in stored.files:
            kind, call, name = key.split(":", 2)
            found[kind, call].numbers[name] = stored[key]
    return found


def _write_results(folder: Path) -> None:
    """What people have on disk from 3.9."""
    cfg = ih.attention_only(1, d_model=16, n_heads=2, d_vocab=32, n_ctx=24)
    config = ih.TrainConfig(n_steps=4, batch_size=8, lr=3e-3, snapshots=ih.every(2), n_held_out=16, precision="float32")
    run = ih.train(cfg, ih.RestartCycle(length=24), config, out=folder / "run", progress=False)
    table = ih.ModelAnalysisTable.from_runs([run], settings=ih.TableSettings(n_examples=12), progress=False)
    table.save(folder / "table")
    model = run.snapshots[-1].load()
    evals = ih.EvalSet.from_tokens(run.held_out, seed=0)
    ih.score_heads(model, length=8, repeats=2, text=evals).save(folder / "scores.json")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
