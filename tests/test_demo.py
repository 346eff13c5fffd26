"""The whole job in small, and that what it shows comes from training."""

from pathlib import Path

import pytest

import ih_lens as ih
from ih_lens.demo import TASK, demo_series, demo_training, run_demo


def _few_steps(seed: int) -> ih.TrainConfig:
    return ih.TrainConfig(
        n_steps=6, batch_size=4, lr=1e-3, snapshots=ih.every(2), seed=seed, data_seed=seed, n_held_out=8
    )


def test_the_demo_trains_measures_and_draws(tmp_path: Path) -> None:
    lines = list(run_demo(tmp_path, seeds=(0,), workers=1, training=_few_steps))
    table = ih.ModelAnalysisTable.load(tmp_path / "table.zarr")
    assert table.models == [f"{spec.name}_seed0" for specs in demo_series().values() for spec in specs]
    assert table.record["scoring"] == {"early": 5, "late": 47, "window": 0}
    assert any("loss at context index 47 minus loss at 5" in line for line in lines)
    assert (tmp_path / "table.html").read_text(encoding="utf8").startswith("<!doctype html>")
    # six steps grow no induction head, and nothing in the code knows the answer
    assert not any(table.induction_heads.values())
    assert any("0 of 5 have induction heads" in line for line in lines)


def test_the_demo_is_the_size_that_it_says() -> None:
    specs = [spec for models in demo_series().values() for spec in models]
    assert [(spec.cfg.n_layers, spec.cfg.attn_only, spec.smeared_keys) for spec in specs] == [
        (1, True, False),
        (2, True, False),
        (3, True, False),
        (1, False, False),
        (2, False, False),
        (1, True, True),
        (2, True, True),
    ]
    config = demo_training(3)
    assert len(config.snapshots.steps(config.n_steps)) >= 40
    assert (config.seed, config.data_seed) == (3, 3)


def test_seeds_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ih.InputError, match="different integers"):
        list(run_demo(tmp_path, seeds=(1, 1)))


@pytest.mark.slow
def test_smeared_keys_let_one_layer_grow_induction_heads(tmp_path: Path) -> None:
    cfg = demo_series()["Smeared keys"][0].cfg
    config = ih.TrainConfig(n_steps=300, batch_size=32, lr=3e-3, snapshots=ih.every(20), n_held_out=256)
    specs = [ih.ModelSpec("plain", cfg), ih.ModelSpec("smeared", cfg, smeared_keys=True)]
    runs = ih.train_series(specs, TASK, config, out=tmp_path)
    table = ih.ModelAnalysisTable.from_runs(runs, settings=ih.TableSettings(ablate=False))
    scores = {name: float(score[-1]) for name, score in table["in_context_learning_score"].items()}
    assert not table.induction_heads["plain"]
    assert table.induction_heads["smeared"]
    assert table.phase_changes["smeared"].found
    assert scores["smeared"] < 3 * scores["plain"] < 0
