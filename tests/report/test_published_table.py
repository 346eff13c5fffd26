"""The whole table over published checkpoints, against a stand-in of the hub: interrupted, incomplete, and continued."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ih_lens as ih
from ih_lens import cli
from ih_lens.report.settings import TableSettings
from ih_lens.report.table_command import parse_revisions
from tests.models.hub_stand_in import HubStandIn, connect, hub, impatient, serving
from tests.models.huggingface_models import byte_level_tokenizer, save_huggingface
from tests.report.conftest import train_tiny

__all__ = ["hub", "impatient"]
NAME = "lab/tiny-neox"
STEPS = {"step0": 0, "step1": 1, "step2": 2, "step4": 4, "step8": 8}
SETTINGS = TableSettings()
LINE = (
    f"table {NAME} --revisions {','.join(f'{label}:{step}' for label, step in STEPS.items())} --tokens-per-step 100 "
    "--n-examples 4 --n-pos 24 --text words.txt --disk-budget-gb 0.0001 --data table.zarr"
)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five revisions whose weights differ, written once."""
    folder = tmp_path_factory.mktemp("published")
    for seed, revision in enumerate(STEPS):
        save_huggingface(folder / revision, "gpt_neox", seed=seed)
    return folder


@pytest.fixture
def commits(hub: HubStandIn, files: Path) -> dict[str, str]:
    """Their repository."""
    return _publish(hub, files)


def _publish(hub: HubStandIn, files: Path) -> dict[str, str]:
    hub.add(NAME, "main", files / "step8")
    return {revision: hub.add(NAME, revision, files / revision) for revision in STEPS}


def _open(tmp_path: Path, **options: Any) -> ih.PublishedRun:
    chosen: dict[str, Any] = {"revisions": STEPS, "tokens_per_step": 100, "folder": tmp_path / "run", **options}
    return ih.published_run(NAME, **chosen)


def _examples(run: ih.PublishedRun) -> ih.EvalSet:
    return ih.text_examples(run, ["the cat sat on the mat and the dog lay on the log " * 20], n_examples=4, n_pos=24)


def _table(runs: Any, evals: ih.EvalSet) -> ih.ModelAnalysisTable:
    return ih.ModelAnalysisTable.from_runs(runs, evals=evals, settings=SETTINGS, progress=False)


def _same(one: ih.ModelAnalysisTable, other: ih.ModelAnalysisTable) -> None:
    for mine, theirs in zip(one.datasets.values(), other.datasets.values(), strict=True):
        assert set(mine.data_vars) == set(theirs.data_vars)
        for name in mine.data_vars:
            np.testing.assert_array_equal(mine[name].to_numpy(), theirs[name].to_numpy())


def test_every_checkpoint_is_measured_and_training_is_in_tokens(commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path)
    table = _table([run], _examples(run))
    dataset = table.dataset("run")
    assert dataset["tokens_elapsed"].to_numpy().tolist() == [0, 100, 200, 400, 800]
    assert dataset["step"].to_numpy().tolist() == [0, 1, 2, 4, 8]
    direct = ih.token_losses(run.snapshots[3].load(), _examples(run), progress=False)
    np.testing.assert_allclose(dataset["random_token"][3], direct.random_token, rtol=1e-5)
    assert table.missing == {}
    assert table.record["examples"]["source"]["kind"] == "text"
    axis: Any = next(table.figure("prefix_matching").select_xaxes())
    assert axis.type == "log"
    page = table.to_html(tmp_path / "table.html").read_text(encoding="utf8")
    assert commits["step4"] in page
    assert NAME in page


def test_measured_again_from_its_folder_without_the_hub(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path
) -> None:
    run = _open(tmp_path, disk_budget_gb=0)
    first = _table([run], _examples(run))
    hub.stop()
    again = _table([tmp_path / "run"], _examples(_open(tmp_path)))
    assert again.record["collection"]["n_taken"] == 0
    _same(first, again)


def test_checkpoints_that_cannot_be_had_are_left_out_told_and_taken_later(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path, impatient: None
) -> None:
    run = _open(tmp_path, retries=1, revisions={**STEPS, "step16": 16})
    evals = _examples(run)
    failures = [
        hub.fail("status", f"{commits['step2']}/model.safetensors", status=403, code="GatedRepo"),
        hub.fail("short", f"{commits['step4']}/model.safetensors"),
    ]
    table = _table([run], evals)
    assert table.dataset("run")["step"].to_numpy().tolist() == [0, 1, 8]
    missing = table.missing["run"]
    assert {label: reason.split(":")[0] for label, reason in missing.items()} == {
        f"{NAME} step2 (commit {commits['step2'][:12]})": "GatedRepoError",
        f"{NAME} step4 (commit {commits['step4'][:12]})": "OSError",
        f"{NAME} step16 (commit unknown)": f"{NAME} has no revision 'step16'",
    }
    assert "3 of 6 snapshots are missing" in table.to_html(tmp_path / "table.html").read_text(encoding="utf8")
    saved = ih.ModelAnalysisTable.load(table.save(tmp_path / "table.zarr"))
    assert saved.missing == table.missing
    for failure in failures:
        hub.failures.remove(failure)
    later = _table([_open(tmp_path)], evals)
    assert later.missing == {}
    assert later.dataset("run")["step"].to_numpy().tolist() == [0, 1, 2, 4, 8]
    assert later.record["collection"]["n_stored"] == 3 * 3
    whole = _table([_open(tmp_path, folder=tmp_path / "elsewhere" / "run")], evals)
    _same(later, whole)


def test_a_checkpoint_of_nan_weights_is_left_out_and_told(
    hub: HubStandIn, commits: dict[str, str], files: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(files / "step4", broken)
    weights = load_file(broken / "model.safetensors")
    next(tensor for name, tensor in weights.items() if name.endswith("dense.weight"))[0, 0] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    commit = hub.add(NAME, "step6", broken)
    run = _open(tmp_path, revisions={"step2": 2, "step4": 4, "step6": 6})
    table = _table([run], _examples(run))
    assert table.dataset("run")["step"].to_numpy().tolist() == [2, 4]
    ((label, reason),) = table.missing["run"].items()
    assert label == f"{NAME} step6 (commit {commit[:12]})"
    assert "hold NaN or infinity" in reason
    assert "1 of 3 snapshots are missing" in table.to_html(tmp_path / "table.html").read_text(encoding="utf8")
    only = _open(tmp_path, revisions={"step6": 6}, folder=tmp_path / "only")
    with pytest.raises(ih.DownloadError, match=r"none of its 1 snapshots could be measured.*hold NaN or infinity"):
        _table([only], _examples(only))


def test_a_hub_that_is_gone_is_not_waited_for_by_every_checkpoint(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path, impatient: None
) -> None:
    run = _open(tmp_path, retries=0)
    evals = _examples(run)
    hub.stop()
    with pytest.raises(ih.DownloadError, match="none of its 5 snapshots"):
        _table([run], evals)
    notes = [file.read_text() for file in (tmp_path / "run" / "measured" / "missing").glob("*.json")]
    assert sum("not tried" in note for note in notes) == 2
    hub.start()
    assert _table([run], evals).missing == {}


def test_beside_a_model_that_was_trained_here(commits: dict[str, str], tmp_path: Path) -> None:
    published, trained = _open(tmp_path), train_tiny(tmp_path / "2L", 2)
    tokens = _examples(published).tokens % 32  # ids that both know
    table = _table([published, trained.path], ih.EvalSet.from_tokens(tokens))
    assert table.models == ["run", "2L"]


def test_published_models_need_examples(commits: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ih.InputError, match="text_examples"):
        ih.ModelAnalysisTable.from_runs([_open(tmp_path)], progress=False)


def test_different_tokenizers_do_not_share_a_table(
    hub: HubStandIn, commits: dict[str, str], files: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save_huggingface(other, "gpt_neox", tokenizer=byte_level_tokenizer(n_tokens=290))
    hub.add("lab/other", "step0", other)
    hub.add("lab/other", "main", other)
    mine = _open(tmp_path)
    theirs = ih.published_run("lab/other", revisions={"step0": 0}, tokens_per_step=1, folder=tmp_path / "other_run")
    with pytest.raises(ih.FingerprintError, match="different tokenizers"):
        _table([mine, theirs], _examples(mine))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("all", "all"), ("log", "log"), ("20", 20), ("1,2, step4", ["1", "2", "step4"]), ("a:1,b:20", {"a": 1, "b": 20})],
)
def test_revisions_on_the_command_line(text: str, meaning: Any) -> None:
    assert parse_revisions(text) == meaning


@pytest.mark.parametrize("text", ["", ",", "a:1,b"])
def test_wrong_revisions_on_the_command_line(text: str) -> None:
    with pytest.raises(ih.InputError, match="--revisions"):
        parse_revisions(text)


@pytest.fixture
def elsewhere(files: Path, tmp_path: Path) -> Generator[tuple[HubStandIn, dict[str, str]]]:
    """A hub for other processes, and their environment."""
    (tmp_path / "words.txt").write_text("the cat sat on the mat and the dog lay on the log\n" * 40)
    with serving() as running:
        _publish(running, files)
        yield running, {**os.environ, **running.environment(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}


def _start(line: str, cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    code = "from ih_lens.cli import main; main()"
    words = [sys.executable, "-W", "error", "-c", code, *line.split()]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=cwd, env=environment, start_new_session=True, **pipes)


def test_killed_in_the_middle_and_continued_to_the_same_table(
    elsewhere: tuple[HubStandIn, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, environment = elsewhere
    last = hub.repositories[NAME].refs["step8"]
    hub.fail("slow", f"GET?/?{NAME}/resolve/{last}/model.safetensors", seconds=60)
    process = _start(LINE, tmp_path, environment)
    store = tmp_path / "published" / NAME / "measured"
    deadline = time.monotonic() + 120
    while len(list(store.glob("*.safetensors"))) < 3 * 4 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert hub.downloads(NAME, "model.safetensors") <= 5
    hub.failures.clear()
    hub.requests.clear()
    again = _start(LINE, tmp_path, environment)
    said, errors = again.communicate(timeout=200)
    assert (again.returncode, errors) == (0, "")
    assert "lab/tiny-neox: 5 checkpoints, step 0 to 8 (0 to 800 tokens)" in said
    assert "4 examples of 24 tokens of words.txt go 9 times through each" in said
    assert hub.downloads(NAME, "model.safetensors") == 1
    blobs = (tmp_path / "hf").rglob("blobs/*")
    assert sum(blob.stat().st_size for blob in blobs if blob.stat().st_size > 50_000) <= 100_000
    resumed = ih.ModelAnalysisTable.load(tmp_path / "table.zarr")
    run = ih.published_run(NAME, revisions=STEPS, tokens_per_step=100, folder=tmp_path / "published" / NAME, retries=0)
    evals = ih.text_examples(run, tmp_path / "words.txt", n_examples=4, n_pos=24)
    assert evals.fingerprint == resumed.record["examples"]["fingerprint"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connect(monkeypatch, hub, tmp_path / "hf")
    whole = ih.ModelAnalysisTable.from_runs([run], evals=evals, store=tmp_path / "fresh", progress=False)
    assert whole.record["collection"]["n_stored"] == 0
    _same(resumed, whole)


@pytest.mark.slow
def test_workers_note_what_is_missing_and_go_on(elsewhere: tuple[HubStandIn, dict[str, str]], tmp_path: Path) -> None:
    hub, environment = elsewhere
    commit = hub.repositories[NAME].refs["step2"]
    hub.fail("status", f"{commit}/model.safetensors", status=403, code="GatedRepo")
    done = _start(LINE + " --workers 2 --no-ablate", tmp_path, environment)
    said, errors = done.communicate(timeout=200)
    assert done.returncode == 0, errors
    assert f"Missing of tiny-neox, and tried again by the same command: {NAME} step2 (commit {commit[:12]})" in said
    assert "Traceback" not in errors


def test_the_command_says_what_is_missing(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    hub.fail("status", f"{commits['step2']}/model.safetensors", status=403, code="GatedRepo")
    (tmp_path / "words.txt").write_text("the cat sat on the mat and the dog lay on the log\n" * 40)
    _call(LINE + " --no-ablate", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    label = f"{NAME} step2 (commit {commits['step2'][:12]})"
    assert f"Missing of tiny-neox, and tried again by the same command: {label}: GatedRepoError" in said
    assert "go 1 times through each" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("table runs/absent", "runs/absent is no folder"),
        ("table runs/absent --text words.txt", "runs/absent is no folder"),
        ("table pythia-70m --revisions 1,x", "'x' was not published"),
        ("table lab/absent --revisions a:1 --tokens-per-step 1", "no such public repository"),
        (f"table {NAME} --revisions step1:1", "tokens_per_step"),
        (f"table {NAME} --revisions step1:1 --tokens-per-step 1 --dtype float8", "--dtype"),
        (f"table {NAME} --revisions step1:1 --tokens-per-step 1 --retries -1", "--retries"),
    ],
)
def test_wrong_calls_are_told_in_one_line(
    commits: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, line: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        _call(line, tmp_path, monkeypatch)
    said, errors = capsys.readouterr()
    assert (stop.value.code, said) == (2, "")
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def _call(line: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in this process."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["ih-lens", *line.split()])
    cli.main()
