"""Several models on one corpus: the same examples, side by side, none trained twice."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.training import command
from ih_lens.training.series import last_loss

CORPUS = ih.RestartCycle()
CONFIG = ih.TrainConfig(n_steps=3, batch_size=4, lr=1e-3, snapshots=ih.every(2), n_held_out=4)


def _specs() -> list[ih.ModelSpec]:
    cfg = ih.attention_only(1, d_model=16, n_heads=2, d_vocab=32, n_ctx=48)
    return [ih.ModelSpec("plain", cfg), ih.ModelSpec("smeared", cfg, smeared_keys=True)]


@dataclass(frozen=True)
class DeadlyCycle(ih.RestartCycle):
    """The same examples, but the first process that asks for some is killed."""

    once: str = ""

    def describe(self) -> dict[str, Any]:
        return CORPUS.describe()

    def examples(self, start: int, stop: int, *, data_seed: int) -> Any:
        if not Path(self.once).exists():
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().examples(start, stop, data_seed=data_seed)


def test_a_series_is_what_its_models_are_alone_though_a_worker_is_killed(tmp_path) -> None:
    corpus = DeadlyCycle(once=str(tmp_path / "killed"))
    runs = ih.train_series(_specs(), corpus, CONFIG, out=tmp_path / "series", workers=2)
    assert Path(corpus.once).exists()
    assert [run.name for run in runs] == ["plain", "smeared"]
    assert [run.smeared_keys for run in runs] == [False, True]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = ih.train(_specs()[1].cfg, CORPUS, CONFIG, out=tmp_path / "alone", smeared_keys=True)
    torch.set_num_threads(threads)
    assert runs[1].snapshots[-1].weights_hash == alone.snapshots[-1].weights_hash
    again = ih.train_series(_specs(), CORPUS, CONFIG, out=tmp_path / "series")
    assert [run.snapshots[-1].weights_hash for run in again] == [run.snapshots[-1].weights_hash for run in runs]


def test_each_model_can_have_its_own_configuration(tmp_path) -> None:
    longer = ih.TrainConfig(n_steps=5, batch_size=4, lr=1e-3, n_held_out=4)
    runs = ih.train_series(_specs(), CORPUS, {"plain": CONFIG, "smeared": longer}, out=tmp_path)
    assert [run.snapshots[-1].step for run in runs] == [3, 5]


def test_names_must_differ_and_be_configured(tmp_path) -> None:
    twice = [_specs()[0], _specs()[0]]
    with pytest.raises(ih.InputError, match="different names, got plain, plain"):
        ih.train_series(twice, CORPUS, CONFIG, out=tmp_path)
    with pytest.raises(ih.InputError, match="no training configuration for smeared"):
        ih.train_series(_specs(), CORPUS, {"plain": CONFIG}, out=tmp_path)


def test_progress_reads_what_is_being_written(tmp_path) -> None:
    assert last_loss(tmp_path) == (0, "-")
    file = tmp_path / "losses.jsonl"
    lines = "".join(f'{{"step": {step}, "tokens_elapsed": 1, "loss": 2.5, "lr": 0.1}}\n' for step in range(30))
    file.write_text(lines + '{"step": 30, "to')
    assert last_loss(tmp_path) == (30, "2.500")
    file.write_text('{"step": 0, "to')
    assert last_loss(tmp_path) == (0, "-")


@pytest.mark.parametrize(
    ("words", "steps"), [("every:50", [0, 50, 100]), ("powers:4:6", [0, 16, 32, 64, 100]), ("3,7", [0, 3, 7, 100])]
)
def test_snapshots_in_words(words: str, steps: list[int]) -> None:
    assert command.schedule(words).steps(100) == steps


def test_models_of_a_series_fit_the_corpus() -> None:
    specs = command.models_of_series("smeared_keys", "laptop", "control_1L,smeared_keys_1L", CORPUS)
    assert [(spec.name, spec.smeared_keys) for spec in specs] == [("control_1L", False), ("smeared_keys_1L", True)]
    assert [(spec.cfg.d_vocab, spec.cfg.d_vocab_out, spec.cfg.n_ctx) for spec in specs] == [(32, 32, 48)] * 2
    own = command.own_models([1, 2], CORPUS, True, True, {"d_model": 16, "n_heads": 2, "positions": "rotary"})
    assert [(spec.name, spec.cfg.n_layers) for spec in own] == [
        ("with_mlps_smeared_1L", 1),
        ("with_mlps_smeared_2L", 2),
    ]
