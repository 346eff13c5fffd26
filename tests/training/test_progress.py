import re

import ih_lens as ih
from tests.training.helpers import tiny_cfg, tiny_config, tiny_corpus, train_tiny


def test_cost_before_and_progress_during(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", "160")
    run = train_tiny(tmp_path / "bar")
    said = capsys.readouterr().err
    n_parameters = run.manifest["n_parameters"]
    assert n_parameters == sum(parameter.numel() for parameter in run.snapshots[-1].load().parameters())
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert f"bar: {n_parameters:,} parameters, 768 tokens, 4 snapshots, 0.1 MB on disk" in plain
    assert "12/12 steps" in plain
    assert "tokens/s" in plain


def test_can_be_switched_off(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    ih.train(tiny_cfg(), tiny_corpus(), tiny_config(), out=tmp_path / "quiet", progress=False)
    assert capsys.readouterr().err == ""
