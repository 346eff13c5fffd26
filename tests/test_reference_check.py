"""The reference numbers: reached here, portable, and missed where something is wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.cli import main
from ih_lens.reference_check import check, measures
from ih_lens.reference_check.command import check_lines
from ih_lens.reference_check.models import REFERENCE_MODELS, reference_examples, reference_model
from tests import reference_numbers

STORED = json.loads(reference_numbers.FILE.read_text(encoding="utf8"))["numbers"]
W_E = [0.047627697038615024, 0.05736362436902054, 0.39183766896112393]
TOKENS = [96, 61, 65, 39, 67, 48]
INDICES = [21, 31, 23, 21, 17, 4]
DRAWN = [[10, 38, 46, 19, 114, 43, 10, 38, 46, 19, 114, 43], [97, 16, 92, 31, 29, 80, 97, 16, 92, 31, 29, 80]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_this_installation_gives_the_reference_numbers(dtype: str) -> None:
    compared = ih.check_reference_numbers(dtype=dtype, progress=False)
    assert set(compared.model) == set(REFERENCE_MODELS) == set(STORED)
    assert set(compared.measure) == set(measures.MEASURES)
    assert bool(compared.within.all()), compared[~compared.within].to_string()
    assert compared.n_numbers.sum() == sum(len(values) for of in STORED.values() for values in of.values())


@pytest.mark.parametrize("device", ["nonsense", "meta"])
def test_a_device_that_is_none_is_refused_before_anything_is_measured(device: str) -> None:
    with pytest.raises(ih.InputError, match="device: "):
        ih.check_reference_numbers(device=device)


def test_the_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(check, "REFERENCE_MODELS", ["smeared_keys_1L"])
    monkeypatch.setattr(sys, "argv", ["ih-lens", "check"])
    main()
    said = capsys.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 3 + len(measures.MEASURES)
    assert said.out.splitlines()[-1].startswith("All ")


def test_a_number_outside_is_named_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(check, "REFERENCE_MODELS", ["smeared_keys_1L"])
    entry = measures.MEASURES["prefix_matching"]
    shifted = replace(entry, numbers=lambda found: entry.numbers(found) + 1e-4)
    monkeypatch.setitem(measures.MEASURES, "prefix_matching", shifted)
    monkeypatch.setattr(sys, "argv", ["ih-lens", "check"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said if line.endswith("OUTSIDE")] == ["prefix_matching"]
    assert said[-1].startswith("Outside their tolerances: prefix_matching of smeared_keys_1L.")


def test_what_is_undefined_on_one_side_only_lies_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "REFERENCE_MODELS", ["smeared_keys_1L"])
    wrong: dict[str, Any] = {
        "copying": lambda _: np.full(4, np.nan),
        "qk_eigenvalue_trace": lambda _: np.zeros(4),
        "previous_token": lambda _: np.zeros(5),
    }
    for name, numbers in wrong.items():
        monkeypatch.setitem(measures.MEASURES, name, replace(measures.MEASURES[name], numbers=numbers))
    compared = ih.check_reference_numbers(progress=False)
    outside = compared[~compared.within]
    assert set(outside.measure) == set(wrong)
    assert set(outside.difference) == {np.inf}
    assert list(check_lines(compared))[-1].startswith("Outside")


def test_the_writer_writes_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the stored numbers, so that only the form is looked at; the numbers themselves are above."""
    stored = reference_numbers.FILE.read_text(encoding="utf8")
    monkeypatch.setattr(reference_numbers, "FILE", tmp_path / "written.json")
    monkeypatch.setattr(reference_numbers, "numbers_of", lambda name, **_: as_arrays(STORED[name]))
    reference_numbers.main()
    written = (tmp_path / "written.json").read_text(encoding="utf8")
    assert written.partition('"numbers"')[2] == stored.partition('"numbers"')[2]
    assert all(list(of) == list(measures.MEASURES) for of in STORED.values())


def as_arrays(of: dict[str, list[float | None]]) -> dict[str, np.ndarray]:
    return {measure: np.array(values, dtype=float) for measure, values in of.items()}


def test_weights_and_examples_are_the_same_everywhere() -> None:
    """Written down here, because no random generator of PyTorch's may have a part in them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = reference_model("attention_only_2L", dtype=torch.float64)
    assert model.W_E[0, :3].tolist() == pytest.approx(W_E, abs=1e-15)
    assert reference_examples().tokens[0, :6].tolist() == TOKENS
    assert reference_examples().random_index.tolist() == INDICES


def test_random_tokens_are_the_same_everywhere() -> None:
    drawn = ih.repeated_random_tokens(reference_model("smeared_keys_1L"), length=6, repeats=2, n_examples=2, seed=3)
    assert drawn.tolist() == DRAWN
