"""`ih-lens score` as a user types it, on a folder in the hub's format and on a snapshot."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ih_lens as ih
from demos.stand_ins import save_gpt2, save_neox
from ih_lens import cli
from ih_lens.report.score_command import ScoreRequest, report, score_model
from tests.helpers import tiny_model
from tests.models.hub_stand_in import HubStandIn, hub, publish
from tests.models.huggingface_models import save_huggingface

__all__ = ["hub"]  # a fixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "tiny_gpt2"
    save_huggingface(place, "gpt2", scale=3.0, n_positions=128)
    return place


def _say(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, int]:
    """What the command prints, its errors, and its status, in this process."""
    monkeypatch.setattr(sys, "argv", ["ih-lens", *line.split()])
    status = 0
    try:
        cli.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr()
    return said.out, said.err, status


def scores_of(**grids: list[list[float]]) -> ih.HeadScores:
    base = {name: torch.zeros(1, 3) for name in ("prefix_matching", "copying", "previous_token")}
    base |= {name: torch.tensor(rows) for name, rows in grids.items()}
    described = {"range": (0, 1), "measured_on": "random tokens", "n_examples": 2, "length": 5, "repeats": 3, "bos": 7}
    return ih.HeadScores.from_tensors(
        base, provenance={"model": "made up", "seed": 4}, attributes=dict.fromkeys(base, described)
    )


def test_heads_are_listed_by_type_best_first() -> None:
    scores = scores_of(prefix_matching=[[0.4, 0.9, 0.35]], copying=[[0.1, 0.2, -0.3]], previous_token=[[0.0, 0.0, 0.9]])
    lines = list(report(scores, ih.head_types(scores)))
    assert lines[0] == (
        "Scored on 2 examples of 5 random tokens x 3, seed 4; start token 7; previous token on random tokens"
    )
    assert lines[1] == "3 heads: 2 induction, 1 anti copying prefix matching, 0 previous token, 0 other"
    text = "\n".join(lines)
    assert text.index("L0H1") < text.index("L0H0") < text.index("Anti-copying") < text.index("L0H2")
    assert "Previous-token heads" not in text
    columns = {len(line) for line in lines if line.startswith("  ")}
    assert len(columns) == 1  # all rows are equally wide
    assert "0.900    0.200" in text


def test_what_is_not_defined_is_said_with_the_reason() -> None:
    nan = float("nan")
    scores = scores_of(prefix_matching=[[nan, 0.9, 0.1]], copying=[[nan, nan, nan]])
    scores.dataset["copying"].attrs["undefined"] = "the vocabularies differ"
    text = "\n".join(report(scores, ih.head_types(scores)))
    assert "Not defined: copying: the vocabularies differ" in text
    assert "Not defined for 1 of 3 heads: prefix_matching" in text
    scores.dataset["prefix_matching"].attrs["undefined"] = "the window is short"
    text = "\n".join(report(scores, ih.head_types(scores)))
    assert "Not defined for 1 of 3 heads: prefix_matching: the window is short" in text
    assert "previous_token" not in text.rpartition("Not defined")[2]


def test_long_lists_are_cut(monkeypatch) -> None:
    monkeypatch.setattr("ih_lens.report.score_command.MAX_LISTED", {"induction": 1})
    scores = scores_of(prefix_matching=[[0.4, 0.9, 0.8]], copying=[[0.1, 0.2, 0.3]])
    lines = list(report(scores, ih.head_types(scores)))
    assert "  and 2 more" in lines
    assert not any("L0H0" in line for line in lines)


def test_a_folder_from_the_hub_in_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    code = "from ih_lens.cli import main; main()"
    call = ["score", str(folder), "--out", "out", "--seed", "3", "--n-examples", "4"]
    # no terminal, and every warning an error
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *call],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ih.__file__).parents[1])},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, _, tokens, counts, *_ = done.stdout.splitlines()
    assert first.startswith(f"{folder}: 2 layers of 4 heads, float32, source folder")
    assert "4 examples of 25 random tokens x 4, seed 3; start token 0" in tokens
    assert counts.startswith("8 heads: ")
    assert done.stdout.isascii()
    loaded = ih.HeadScores.load(tmp_path / "out" / "scores.json")
    again = ih.score_heads(ih.load_model(folder), seed=3, n_examples=4)
    for name in again.names:
        np.testing.assert_allclose(loaded[name], again[name], rtol=1e-5, atol=1e-7)
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").read_text(encoding="utf8").splitlines()))
    assert len(rows) == 8
    assert [row["type"] for row in rows] == ih.head_types(again).to_numpy().ravel().tolist()
    assert float(rows[5]["copying_stderr"]) == pytest.approx(float(again.stderr("copying")[1, 1]), rel=1e-4)
    assert "qk_eigenvalue_trace_stderr" not in rows[0]
    assert float(rows[5]["prefix_matching"]) == pytest.approx(float(again["prefix_matching"][1, 1]), rel=1e-5)


def test_options_reach_the_scores(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    told, said, status = _say(
        f"score {folder} --bos none --length 7 --repeats 3 --dtype bfloat16 --text python-stdlib --n-examples 2 "
        f"--out {tmp_path}",
        monkeypatch,
        capsys,
    )
    assert "python-stdlib" in ih.HeadScores.load(tmp_path / "scores.json").attrs["text"]
    assert (said, status) == ("", 0)
    assert "bfloat16" in told
    assert "2 examples of 7 random tokens x 3, seed 0; no start token" in told
    assert "previous token on text" in told
    told, _, _ = _say(f"score {folder} --bos 5 --length 7 --repeats 3", monkeypatch, capsys)
    assert "start token 5" in told


def test_a_snapshot_is_scored_too(tmp_path: Path) -> None:
    tokens = torch.randint(0, 40, (8, 16), generator=torch.Generator().manual_seed(0))
    config = ih.TrainConfig(n_steps=2, batch_size=2, lr=1e-3, n_held_out=2)
    run = ih.train(tiny_model("with_mlps", dtype=torch.float32).cfg, tokens, config, out=tmp_path / "run")
    lines = list(score_model(ScoreRequest(str(run.snapshots[-1].path), length=6, bos="none")))
    assert "2 layers of 4 heads" in lines[0]
    assert any(line.startswith("8 heads: ") for line in lines)


def test_a_revision_on_the_hub(hub: HubStandIn, tmp_path: Path, monkeypatch, capsys) -> None:
    name = "EleutherAI/pythia-160m"
    commits = publish(hub, name, ["step512", "step143000"], _planted, tmp_path)
    capsys.readouterr()  # what saving says
    told, said, status = _say(f"score {name} --revision step512 --n-examples 2", monkeypatch, capsys)
    assert (said, status) == ("", 0)
    assert told.startswith(f"{name}: 2 layers of 4 heads, float32, source hub, revision step512")
    assert f"commit {commits['step512']}" in told.splitlines()[0]
    assert "8 heads: 0 induction" in told
    told, _, _ = _say(f"score {name} --checkpoint 143000 --n-examples 2", monkeypatch, capsys)
    assert "8 heads: 1 induction" in told
    # the step has other weights than those that were published about
    _, said, status = _say(f"score {name} --revision step512 --atlas auto", monkeypatch, capsys)
    assert status == 2
    assert "at main or step143000 and not at 'step512'" in said


def _planted(folder: Path, place: int) -> None:
    """No induction head in the first revision, one in the second."""
    save_neox(folder, float(place))


def test_published_heads_are_compared(tmp_path: Path) -> None:
    place = tmp_path / "copy"
    save_gpt2(place)
    lines = list(score_model(ScoreRequest(str(place), atlas="gpt2", n_examples=2)))
    listed = [line.split()[0] for line in lines if line.startswith("  L")]
    assert sorted(listed[:4]) == ["L5H5", "L6H9", "L7H10", "L8H1"]
    assert listed[4:6] == ["L2H2", "L4H11"]
    assert "Published heads:" in lines
    assert any("5 of 11 published heads found" in line for line in lines)
    assert any(line.startswith("  Kevin Wang et al. 2022: Interpretability in the Wild") for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--bos start", "--bos: expected auto, none or a token's id, got 'start'"),
        ("--bos 99999", "expected 'auto', None or an id from 0 to 303"),
        ("--dtype int8", "--dtype: expected one of float32, bfloat16, float16"),
        ("--atlas auto", "the atlas has no heads of"),
        ("--atlas gpt3", "the atlas has no heads of 'gpt3'"),
        ("--atlas gpt2", "has 12 layers of 12 heads, but these scores are of 2 layers of 4 heads"),
        ("--revision main", "revision"),
        ("--text missing.txt", "missing.txt"),
    ],
)
def test_wrong_calls(folder: Path, options: str, message: str, monkeypatch, capsys) -> None:
    _, said, status = _say(f"score {folder} {options}", monkeypatch, capsys)
    assert status == 2
    assert said.startswith("ih-lens: ")
    assert message in said
