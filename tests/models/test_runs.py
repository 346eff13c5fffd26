import json
import shutil

import pytest
import torch

import ih_lens as ih
from tests.training.helpers import tiny_cfg, train_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "plain", snapshots=ih.powers_of_two(0, 3))


@pytest.fixture
def copied(run, tmp_path):
    return ih.open_run(shutil.copytree(run.path, tmp_path / "copied"))


def test_opens_by_text_or_path(run, monkeypatch):
    assert ih.open_run(str(run.path)).manifest == ih.open_run(run.path).manifest
    monkeypatch.chdir(run.path)
    assert ih.open_run(".").name == "plain"


def test_reads_what_was_trained(run):
    assert run.exponential
    assert run.finished
    assert not run.smeared_keys
    assert vars(run.cfg) == vars(tiny_cfg())
    assert [snapshot.step for snapshot in run.snapshots] == [0, 1, 2, 4, 8, 12]
    assert list(run.losses.columns) == ["step", "tokens_elapsed", "loss", "lr"]
    assert run.held_out.dtype == torch.int64


def test_what_is_being_written_is_no_snapshot(copied):
    shutil.copytree(copied.snapshots[0].path, copied.path / "snapshots" / ".tmp-step_00000099-abcdef12")
    assert copied.snapshots[-1].step == 12


def test_a_run_without_its_last_snapshot_is_not_finished(copied):
    shutil.rmtree(copied.snapshots[-1].path)
    assert not copied.finished


def test_a_line_that_is_being_written_does_not_count(copied):
    with (copied.path / "losses.jsonl").open("a") as log:
        log.write('{"step": 12')
    assert len(copied.losses) == 12


@pytest.mark.parametrize("line", ["loss: 3", "{}", '{"step": 3, "tokens_elapsed": 9, "loss": "low", "lr": 1}', "3"])
def test_an_altered_log_is_refused(copied, line):
    with (copied.path / "losses.jsonl").open("a") as log:
        log.write(line + "\n")
    with pytest.raises(ih.DamagedFileError, match=r"losses.jsonl is (truncated or )?altered.*restore it from a copy"):
        _ = copied.losses


def test_altered_held_out_examples_are_refused(copied):
    file = copied.path / "held_out.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x01\x00\x00\x00")
    with pytest.raises(ih.DamagedFileError, match="truncated or altered"):
        _ = copied.held_out


def test_a_run_of_nothing(tmp_path):
    with pytest.raises(ih.DamagedFileError, match="is no folder"):
        ih.open_run(tmp_path / "missing")
    with pytest.raises(ih.DamagedFileError, match=r"holds no run.json"):
        ih.open_run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "else"}, "not a file of the format 'ih_lens run'"),
        ({"smeared_keys": "no"}, "'smeared_keys' should be bool"),
        ({"training": {"n_steps": None}}, "'n_steps' should be int"),
        ({"model": []}, "'model' should be dict"),
    ],
)
def test_altered_records_are_refused(copied, changes, message):
    file = copied.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ih.DamagedFileError, match=message):
        read_all(copied.path)


def read_all(path):
    run = ih.open_run(path)
    return run.smeared_keys, run.n_steps, run.cfg
