"""Killed, resumed, raced, damaged: what happens to a run folder."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import ih_lens as ih
from ih_lens.errors import StorageError
from ih_lens.parallel import torch_threads
from ih_lens.training.run_folder import locked
from ih_lens.training.stepper import take_step
from tests.training.helpers import contents, same_weights, tiny_cfg, tiny_config, train_tiny

_MANY = {"n_steps": 120, "snapshots": ih.every(2), "state_every": 3}

_SERVER = """
import os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import ih_lens as ih
from pathlib import Path
from tests.training.helpers import train_tiny
ih.train, ih.RestartCycle, ih.attention_only
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        train_tiny(Path(line.strip()), n_steps=120, snapshots=ih.every(2), state_every=3)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_ten_kills_leave_no_trace(tmp_path):
    """SIGKILL at ten random moments of one training, most of them while files are written."""
    undisturbed = train_tiny(tmp_path / "undisturbed", **_MANY)
    out, chance = tmp_path / "killed", random.Random(0)
    code = _SERVER.format(root=str(Path(__file__).parents[2]))
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with server:
        for _ in range(10):
            server.stdin.write(f"{out}\n")
            server.stdin.flush()
            child, already = int(server.stdout.readline()), _progress(out)
            while _progress(out) < already + 4:  # a kill may cut the log back a little, so it moves on by less
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert int(server.stdout.readline()) == -signal.SIGKILL
        server.stdin.close()
    assert not ih.open_run(out).finished
    assert contents(train_tiny(out, **_MANY).path) == contents(undisturbed.path)


def _progress(out: Path) -> int:
    """Steps noted so far."""
    log = out / "losses.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.mark.parametrize("place", ["state", "snapshots"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_kill_between_any_two_operations_on_the_disk(tmp_path, monkeypatch, place, count):
    """Stops at the renaming that makes a state or a snapshot visible: before it, and right after it."""
    undisturbed = contents(train_tiny(tmp_path / "undisturbed").path)
    for moment in ("before", "after"):
        out = tmp_path / moment
        with monkeypatch.context() as patch:
            _stop_at_rename(patch, place, count, moment)
            with pytest.raises(KeyboardInterrupt):
                train_tiny(out)
        assert contents(train_tiny(out).path) == undisturbed


def _stop_at_rename(patch, place, count, moment):
    original, seen = Path.rename, []

    def rename(self, target):
        interesting = Path(target).parent.name == place and Path(target).name.startswith("step_")
        seen.extend([target] * interesting)
        if interesting and len(seen) == count and moment == "before":
            raise KeyboardInterrupt
        result = original(self, target)
        if interesting and len(seen) == count:
            raise KeyboardInterrupt
        return result

    patch.setattr(Path, "rename", rename)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that stopped after step 10 of 12, with a loss line more than was saved."""
    out = tmp_path_factory.mktemp("runs") / "interrupted"
    with pytest.MonkeyPatch.context() as patch:
        _stop_at_rename(patch, "state", 3, "before")
        with pytest.raises(KeyboardInterrupt):
            train_tiny(out)
    return out


@pytest.fixture
def copied(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "copied")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "undisturbed")


def test_an_interrupted_run_is_readable(interrupted):
    run = ih.open_run(interrupted)
    assert not run.finished
    assert [snapshot.step for snapshot in run.snapshots] == [0, 5, 10]
    assert [place.name for place in (interrupted / "state").glob("step_*")] == ["step_00000010"]
    assert len(run.losses) == 12


def test_one_state_is_left_at_the_end(copied):
    train_tiny(copied)
    assert [place.name for place in (copied / "state").iterdir()] == ["step_00000012"]
    assert not list(copied.rglob(".tmp-*"))


def test_a_half_written_line_is_dropped(copied, undisturbed):
    with (copied / "losses.jsonl").open("a") as log:
        log.write('{"step": 12, "tok')
    assert len(ih.open_run(copied).losses) == 12
    assert contents(train_tiny(copied).path) == contents(undisturbed.path)


def test_a_shortened_log_is_refused(copied):
    os.truncate(copied / "losses.jsonl", 100)
    with pytest.raises(ih.DamagedFileError, match="shorter than it was; delete"):
        train_tiny(copied)


def test_a_damaged_state_is_refused(copied):
    file = copied / "state" / "step_00000010" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ih.DamagedFileError, match=r"state.safetensors is truncated or altered.*train again"):
        train_tiny(copied)


@pytest.mark.parametrize("said", ["Os { code: 28, kind: StorageFull }", "No space left on device (os error 28)"])
def test_a_full_disk_is_told_and_costs_nothing(tmp_path, monkeypatch, said, undisturbed):
    """As versions of safetensors tell it."""

    def fail(_, path):
        if path.parent.name.startswith(".tmp-step_00000010"):
            raise SafetensorError(f"Error while serializing: I/O error: {said}")
        return save_file(_, path)

    with monkeypatch.context() as patch:
        patch.setattr("ih_lens.training.tensors_file.save_file", fail)
        with pytest.raises(
            StorageError, match=r"state cannot be written: No space left on device. Make room; what was"
        ):
            train_tiny(tmp_path, state_every=5)
    assert not list(tmp_path.rglob(".tmp-*"))
    assert contents(train_tiny(tmp_path).path) == contents(undisturbed.path)


def test_a_lost_snapshot_is_refused(copied):
    shutil.rmtree(copied / "snapshots" / "step_00000005")
    with pytest.raises(ih.DamagedFileError, match=r"lost its snapshots of steps \[5\]"):
        train_tiny(copied)


def test_lost_states_mean_a_new_beginning(copied, undisturbed):
    shutil.rmtree(copied / "state")
    assert contents(train_tiny(copied).path) == contents(undisturbed.path)


def test_snapshots_after_the_last_state_are_not_taken_again(tmp_path, monkeypatch, undisturbed):
    """Snapshots that follow each other quickly bring no state; what is done again comes out the same."""
    monkeypatch.setattr("ih_lens.training.loop._SECONDS_BETWEEN_STATES", 1000.0)
    with monkeypatch.context() as patch:
        _stop_at_rename(patch, "snapshots", 3, "after")
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path)
    assert not list((tmp_path / "state").iterdir())
    taken = {place: place.stat().st_mtime_ns for place in (tmp_path / "snapshots").glob("step_*")}
    assert contents(train_tiny(tmp_path).path) == contents(undisturbed.path)
    assert len(taken) == 3
    assert all(place.stat().st_mtime_ns == moment for place, moment in taken.items())
    assert [place.name for place in (tmp_path / "state").iterdir()] == ["step_00000012"]


def test_the_recorded_precision_is_kept(copied, monkeypatch, undisturbed):
    """Continued on a machine where "auto" would mean something else."""
    monkeypatch.setattr("ih_lens.training.manifest.precision_for", lambda *_: "bfloat16")
    assert contents(train_tiny(copied).path) == contents(undisturbed.path)


def test_a_run_goes_on_with_as_many_threads_as_it_began_with(copied, monkeypatch):
    used = []

    def watched(*arguments, **options):
        used.append(torch.get_num_threads())
        return take_step(*arguments, **options)

    monkeypatch.setattr("ih_lens.training.loop.take_step", watched)
    with torch_threads(2):
        assert train_tiny(copied).finished
        assert torch.get_num_threads() == 2
    assert used == [1, 1]


@pytest.mark.parametrize("n_threads", [0, 10**9, "1", None])
def test_a_number_of_threads_that_nobody_asked_for_is_refused(copied, n_threads):
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**record, "n_threads": n_threads}))
    with pytest.raises(ih.DamagedFileError, match="n_threads"):
        train_tiny(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 2e-2}, "training.lr: 0.01 there, 0.02 asked for"),
        ({"n_steps": 13}, "training.n_steps: 12 there, 13 asked for"),
        ({"snapshots": ih.every(4)}, r"training.snapshots.values: \[5\] there, \[4\] asked for"),
        ({"smeared_keys": True}, "smeared_keys: False there, True asked for"),
        ({"cfg": tiny_cfg(d_model=32)}, "model.d_model: 16 there, 32 asked for"),
        ({"corpus": ih.RestartCycle(n_symbols=12, period=5, length=16)}, "corpus.fingerprint"),
    ],
)
def test_another_configuration_is_refused(interrupted, undisturbed, change, message):
    for out in (interrupted, undisturbed.path):
        with pytest.raises(ih.RunError, match=message):
            train_tiny(out, **change)


def test_what_does_not_change_the_outcome_may_change(copied, undisturbed):
    assert contents(train_tiny(copied, state_every=1, device="cpu").path) == contents(undisturbed.path)


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("\\begin{document}")
    with pytest.raises(ih.RunError, match=r"files that are no run's \(thesis.tex\)"):
        train_tiny(tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_out_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "below"):
        with pytest.raises(ih.RunError, match="is a file or lies below one"):
            train_tiny(out)


def test_a_run_of_another_version_is_refused(copied):
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**record, "version": 99}))
    for use in (train_tiny, ih.open_run):
        with pytest.raises(ih.DamagedFileError, match=r"version 99 .* reads version 1"):
            use(copied)


def test_two_trainings_into_one_folder(copied):
    with locked(copied), pytest.raises(ih.RunError, match="trained into by another process"):
        train_tiny(copied)
    assert train_tiny(copied).finished


def test_two_threads_into_one_folder(tmp_path):
    outcomes = []

    def work():
        try:
            outcomes.append(train_tiny(tmp_path / "run", n_steps=40).finished)
        except ih.RunError as error:
            outcomes.append("another process" in str(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True, True]
    assert ih.open_run(tmp_path / "run").finished


def test_resumed_weights_are_those_of_the_undisturbed_run(copied, undisturbed):
    resumed = train_tiny(copied)
    assert [snapshot.step for snapshot in resumed.snapshots] == [0, 5, 10, 12]
    assert same_weights(resumed.snapshots[-1].load(), undisturbed.snapshots[-1].load())
    assert resumed.losses.equals(undisturbed.losses)


def test_a_model_with_an_unused_parameter_resumes(tmp_path):
    """Under ALiBi, TransformerLens has positions that nothing reads."""
    cfg = tiny_cfg(positions="standard")
    cfg.positional_embedding_type = "alibi"
    with pytest.MonkeyPatch.context() as patch:
        _stop_at_rename(patch, "state", 2, "after")
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "killed", cfg=cfg)
    assert contents(train_tiny(tmp_path / "killed", cfg=cfg).path) == contents(
        train_tiny(tmp_path / "run", cfg=cfg).path
    )


def test_float64_trains_and_resumes(copied, tmp_path):
    run = train_tiny(tmp_path / "run", cfg=tiny_cfg(dtype=torch.float64))
    assert next(run.snapshots[-1].load().parameters()).dtype == torch.float64
    assert tiny_config().n_steps == run.snapshots[-1].step
