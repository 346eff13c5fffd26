"""Small real runs, trained once for all tests of the table, and one table of them."""

from pathlib import Path

import pytest

import ih_lens as ih
from ih_lens.report.settings import TableSettings
from ih_lens.report.table import ModelAnalysisTable

SETTINGS = TableSettings(n_examples=12)


def train_tiny(out: Path, n_layers: int, *, smeared_keys: bool = False, seed: int = 0, n_steps: int = 10) -> ih.Run:
    """A model that learns next to nothing, in a fraction of a second; six snapshots."""
    cfg = ih.attention_only(n_layers, d_model=16, n_heads=2, d_vocab=32, n_ctx=24)
    config = ih.TrainConfig(
        n_steps=n_steps, batch_size=8, lr=3e-3, snapshots=ih.every(2), n_held_out=16, seed=seed, precision="float32"
    )
    return ih.train(cfg, ih.RestartCycle(length=24), config, out=out, smeared_keys=smeared_keys, progress=False)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[ih.Run]:
    """One layer, two layers, one layer with smeared keys."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        train_tiny(folder / "1L", 1),
        train_tiny(folder / "2L", 2),
        train_tiny(folder / "1Ls", 1, smeared_keys=True),
    ]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measurements shared by the tests that do not look at measuring itself."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def table(runs: list[ih.Run], store: Path) -> ModelAnalysisTable:
    series = {"plain": runs[:2], "smeared keys": [runs[0], runs[2]]}
    return ModelAnalysisTable.from_runs(series, settings=SETTINGS, store=store, progress=False)
