"""The demonstration of clamps in small, the sentences that it makes of numbers, and that it says no more than they."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ih_lens as ih
from ih_lens.clamp_demo import findings, wording
from ih_lens.clamp_demo.cycle import CycleResults
from ih_lens.clamp_demo.exemplars import LEFT_TO_LEARN, ExemplarResults
from ih_lens.clamp_demo.run import run_clamp_demo
from ih_lens.clamp_demo.sizes import FULL, QUICK
from ih_lens.experiments.plateaus import longest_plateau

NEVER = float("nan")


def test_it_trains_measures_draws_and_continues(tmp_path: Path) -> None:
    lines = list(run_clamp_demo(tmp_path, seeds=(0,), workers=1, sizes=QUICK))
    page = (tmp_path / "clamping.html").read_text(encoding="utf8")
    assert page.startswith("<!doctype html>")
    assert page.count('class="figure"') == 7
    times = pd.read_csv(tmp_path / "tables" / "restart_cycle_times.csv")
    # so few steps teach nothing, and nothing in the code knows the answer
    assert times["step"].isna().all()
    assert any(
        "RestartCycle, A: one head attends to the previous token: never: earlier in no seed" in line for line in lines
    )
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    markdown = (tmp_path / "clamping.md").read_text(encoding="utf8")
    assert list(run_clamp_demo(tmp_path, seeds=(0,), workers=1, sizes=QUICK)) == lines
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == made
    assert (tmp_path / "clamping.md").read_text(encoding="utf8") == markdown
    assert markdown.count("\n") == 2 + sum(line.startswith("  ") for line in lines)


def test_it_is_the_size_that_it_says() -> None:
    cfg, config = FULL.cycle_model(), FULL.cycle_training()
    assert (cfg.n_layers, cfg.d_model, cfg.n_heads) == (2, 64, 4)
    assert (config.lr, config.batch_size, config.warmup_steps, config.n_steps) == (1e-3, 32, 50, 700)
    cfg, config = FULL.exemplar_model(FULL.exemplars), FULL.exemplar_training(10)
    assert (cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_vocab_out) == (2, 64, 8, 5)
    assert (config.lr, config.batch_size, config.weight_decay) == (1e-4, 32, 0.0)
    assert FULL.exemplars.similarity == 0.8


def test_seeds_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ih.InputError, match="different integers"):
        list(run_clamp_demo(tmp_path, seeds=(1, 1), sizes=QUICK))


def test_words_say_where_seeds_disagree() -> None:
    assert wording.steps_text([10.0, NEVER]) == "10, never steps"
    assert wording.steps_text([NEVER, NEVER]) == "never"
    assert wording.agreement([True]) == "in the one seed"
    assert wording.agreement([True, True]) == "in both seeds"
    assert wording.agreement([True, True, True]) == "in all 3 seeds"
    assert wording.agreement([True, False, True]) == "in 2 of 3 seeds"
    assert wording.agreement([False, False]) == "in no seed"
    assert wording.earlier([10.0, 30.0], [20.0, 20.0]) == "earlier in 1 of 2 seeds (ratio 0.50, 1.50)"
    assert wording.earlier([10.0, NEVER], [NEVER, NEVER]) == "earlier in 1 of 2 seeds (ratio none, none)"
    assert wording.earlier([10.0], [10.0]) == "earlier in no seed (ratio 1.00)"
    assert wording.numbers_text([0.5, NEVER]) == "0.50, unknown"


def _cycle(times: dict[str, list[float]]) -> CycleResults:
    rows = [
        {"condition": name, "seed": seed, "step": step, "plateau": 7, "n_steps": 100}
        for name, steps in times.items()
        for seed, step in enumerate(steps)
    ]
    conditions = [name for name in times if not name.startswith("only")]
    ends = [
        {"condition": name, "seed": seed, "clamped": 1.0 + seed, "released": 3.0 + seed}
        for name in conditions
        for seed in (0, 1)
    ]
    groups = {
        "one of layer 1 left": {"all": 1.0, "only L1H0": 2.5, "only L1H1": 2.0},
        "one of layer 1 taken out": {"without L1H0": 1.1, "without L1H1": 1.2},
        "layer 1 added back": {"1 strongest": 2.0},
        "one of layer 0 taken out": {"without L0H0": 2.9, "without L0H1": 1.0},
        "trained with one of layer 1": {"only L1H0": 1.3, "only L1H1": 1.4},
    }
    race = [
        {"group": group, "condition": name, "seed": seed, "loss": loss + seed}
        for group, losses in groups.items()
        for name, loss in losses.items()
        for seed in (0, 1)
    ]
    return CycleResults(
        {}, 2.0, pd.DataFrame(), pd.DataFrame(rows), pd.DataFrame(ends), [33.0, NEVER], pd.DataFrame(race)
    )


def test_sentences_about_restart_cycle_follow_the_numbers() -> None:
    times = {
        "free": [80.0, 60.0],
        "A: previous token": [40.0, 66.0],
        "B: match": [8.0, 6.0],
        "A forbidden": [NEVER, 90.0],
        "A, then released": [40.0, 66.0],
        "only L1H0": [100.0, 60.0],
        "only L1H1": [NEVER, 50.0],
    }
    told = {line.about: line.measured for line in findings.cycle_findings(_cycle(times))}
    by_start = {about.removeprefix("RestartCycle, ").split(":")[0]: text for about, text in told.items()}
    assert by_start["free"] == "loss below 2.00 nats: 80, 60 steps; longest plateau 7, 7 steps"
    assert "40, 66 steps: earlier in 1 of 2 seeds (ratio 0.50, 1.10)" in by_start["A"]
    assert "8, 6 steps: earlier in both seeds (ratio 0.10, 0.10)" in by_start["B"]
    assert by_start["layer 0 may not attend to the previous token"] == "never, 90 steps: learned in 1 of 2 seeds"
    released = by_start["clamps taken off the trained models"]
    assert "A 1.00, 2.00 and 3.00, 4.00" in released
    assert "A is learned again within 33, never steps, to 3.00, 4.00 at the end" in released
    assert by_start["heads of layer 1 at test time"] == (
        "loss of the whole model 1.00, 2.00; at worst 1.20, 2.20 without one head; 2.00, 3.00 to 2.50, 3.50 with one "
        "alone; added back: 1 strongest 2.00, 3.00"
    )
    assert "most 2.90, 3.90, without the one that matters least 1.00, 2.00" in by_start["heads of layer 0 at test time"]
    assert by_start["trained with one head of layer 1"].endswith("or never, in 2 of 4 trainings")


@pytest.mark.parametrize(("slowed", "verdict"), [("copy", "in both seeds"), ("match", "in no seed")])
def test_sentences_about_labels_follow_the_numbers(slowed: str, verdict: str) -> None:
    copy, match = LEFT_TO_LEARN.values()
    rows = [
        {"condition": condition, "varied": "labels", "number": number, "seed": seed, "step": 100.0 * grown}
        for condition in (copy, match)
        for number, grown in ((5, 1), (15, 3 if condition.startswith(slowed) else 1.5))
        for seed in (0, 1)
    ]
    times = [{"condition": name, "seed": 0, "step": NEVER, "plateau": 1} for name in _EXEMPLAR_CONDITIONS]
    ends = pd.DataFrame({"loss": [0.1], "new_pairs_loss": [0.2], "head 0": [0.9], "head 1": [-0.1]})
    results = ExemplarResults(0.3, 0.7, pd.DataFrame(), pd.DataFrame(times), pd.DataFrame(rows), ends)
    *_, at_the_end, labels = findings.exemplar_findings(results)
    assert "strongest head 0.90, of the weakest -0.10" in at_the_end.measured
    assert labels.measured.endswith(f"The copy is slowed more {verdict}")
    assert f"{copy}: 5: 100, 100 steps; 15: {'300, 300' if slowed == 'copy' else '150, 150'} steps" in labels.measured


_EXEMPLAR_CONDITIONS = (
    "free, all heads",
    "free, one head",
    "A: previous token",
    "layer 1",
    "B: match",
    "C: copy",
    "A, C: layer 1 and copy",
)


def test_the_toy_model_is_told_in_its_order() -> None:
    told = findings.toy_finding({"none clamped": 963.0, "c clamped": 100.0}).measured
    assert told.endswith("from first to last: c clamped, none clamped")


@pytest.mark.slow
def test_clamps_bring_the_phase_change_forward_remove_it_or_prevent_it(tmp_path: Path) -> None:
    parts = ih.subcircuits(FULL.cycle_model())
    conditions = {name: parts[name] for name in ("free", "A: previous token", "B: match", "A forbidden")}
    config = replace(FULL.cycle_training(), n_steps=380, snapshots=ih.every(380))
    runs = ih.train_conditions(FULL.cycle_model(), FULL.cycle, config, conditions, out=tmp_path, progress=False)
    free, previous, match, forbidden = runs.learning_times(2.39)["step"]
    assert previous < 0.8 * free
    assert match < 0.4 * free
    assert np.isnan(forbidden)
    assert longest_plateau(runs.losses("B: match", 0, 20), until=2.39) < 30


@pytest.mark.slow
def test_one_part_alone_is_learned_at_once(tmp_path: Path) -> None:
    config = replace(FULL.exemplar_training(450), n_steps=450)
    times = ih.exemplar_learning_times(
        config, out=tmp_path, task=FULL.exemplars, n_labels=(5, 10), n_classes=(800,), progress=False
    ).set_index(["varied", "number", "condition"])["step"]
    copy, match = LEFT_TO_LEARN
    assert times["labels", 5, copy] < 250
    assert times["labels", 5, match] < 250
    assert times["labels", 10, copy] > 1.6 * times["labels", 5, copy]
    assert times["labels", 10, match] < 1.4 * times["labels", 5, match]
    assert times["classes", 800, match] > 1.6 * times["labels", 5, match]
    assert times["classes", 800, copy] < 1.4 * times["labels", 5, copy]
