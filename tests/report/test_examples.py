"""Jobs carry the place of their examples, and each process reads them once."""

import pickle
from pathlib import Path

import pytest
import torch

import ih_lens as ih
from ih_lens.report import examples
from ih_lens.report.examples import SharedExamples


@pytest.fixture
def evals() -> ih.EvalSet:
    return ih.EvalSet.from_tokens(torch.arange(30_000).reshape(300, 100), seed=3)


def test_what_is_sent_is_small_and_read_once(
    evals: ih.EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedExamples.beside(tmp_path, evals)
    assert shared.get() is evals
    sent = pickle.dumps(shared)
    assert len(sent) < 500
    first, second = pickle.loads(sent).get(), pickle.loads(sent).get()
    assert first is second
    assert first.fingerprint == evals.fingerprint
    assert first.seed == 3
    assert torch.equal(first.tokens, evals.tokens)
    assert torch.equal(first.random_index, evals.random_index)


def test_they_are_written_once_and_repaired(evals: ih.EvalSet, tmp_path: Path) -> None:
    path = SharedExamples.beside(tmp_path, evals).path
    written = path.stat().st_mtime_ns
    assert SharedExamples.beside(tmp_path, evals).path == path
    assert path.stat().st_mtime_ns == written
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(8))
    SharedExamples.beside(tmp_path, evals)
    assert ih.EvalSet.load(path).fingerprint == evals.fingerprint
    assert list(path.parent.iterdir()) == [path]


def test_a_worker_that_does_not_see_them_says_so(evals: ih.EvalSet, tmp_path: Path) -> None:
    shared = SharedExamples.beside(tmp_path, evals)
    examples._read.cache_clear()
    sent = pickle.dumps(shared)
    shared.path.unlink()
    with pytest.raises(ih.errors.DamagedFileError, match=r"this worker sees no .* see under the same path"):
        pickle.loads(sent).get()
