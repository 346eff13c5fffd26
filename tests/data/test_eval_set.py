import hashlib
import struct

import pytest
import torch
from safetensors.torch import save_file

import ih_lens as ih
from ih_lens.errors import DamagedFileError


def tokens(n=200, length=10):
    return torch.randint(0, 30, (n, length), generator=torch.Generator().manual_seed(0))


def test_one_context_index_per_example_between_one_and_the_last():
    evals = ih.EvalSet.from_tokens(tokens(5000), seed=4)
    assert evals.random_index.shape == (5000,)
    counts = torch.bincount(evals.random_index, minlength=10)
    assert counts[0] == 0
    assert len(counts) == 10
    assert ((counts[1:] - 5000 / 9) ** 2 / (5000 / 9)).sum() < 27  # chi-squared, 8 degrees of freedom
    assert (evals.n_examples, evals.n_pos, evals.seed) == (5000, 10, 4)


def test_examples_of_two_tokens_have_one_index_to_choose():
    assert ih.EvalSet.from_tokens(torch.tensor([[3, 4], [5, 6]])).random_index.tolist() == [1, 1]


def test_the_fingerprint_is_the_stated_hash_for_any_integer_type():
    evals = ih.EvalSet.from_tokens(tokens(3, 4))
    numbers = [3, 4, *tokens(3, 4).flatten().tolist(), *evals.random_index.tolist()]
    assert evals.fingerprint == hashlib.sha256(struct.pack(f"<{len(numbers)}q", *numbers)).hexdigest()
    for dtype in (torch.uint8, torch.int16, torch.int32):
        again = ih.EvalSet.from_tokens(tokens(3, 4).to(dtype))
        assert again.fingerprint == evals.fingerprint
        assert again.tokens.dtype == torch.int64


def test_the_fingerprint_tells_tokens_shape_and_seed_apart():
    base = tokens()
    changed = base.clone()
    changed[-1, -1] += 1
    sets = [base, changed, base.reshape(100, 20)]
    fingerprints = {ih.EvalSet.from_tokens(each).fingerprint for each in sets}
    fingerprints.add(ih.EvalSet.from_tokens(base, seed=1).fingerprint)
    assert len(fingerprints) == 4


def test_the_set_is_a_copy_and_cannot_be_reassigned():
    given = tokens()
    evals = ih.EvalSet.from_tokens(given)
    given.zero_()
    assert evals.tokens.any()
    with pytest.raises(AttributeError):
        evals.seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_no_set_of_examples_is_refused():
    with pytest.raises(ih.InputError, match="at least 1 example of at least 2 tokens, got 3 x 1"):
        ih.EvalSet.from_tokens(torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(ih.InputError, match="integer tensor"):
        ih.EvalSet.from_tokens(torch.zeros(3, 4))
    with pytest.raises(ih.InputError, match="seed: expected"):
        ih.EvalSet.from_tokens(tokens(), seed=-1)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_it_can_be_saved_and_read(seed, tmp_path):
    evals = ih.EvalSet.from_tokens(tokens(4), seed=seed)
    read = ih.EvalSet.load(evals.save(tmp_path / "new" / "evals.safetensors"))
    assert (read.fingerprint, read.seed) == (evals.fingerprint, seed)
    assert torch.equal(read.tokens, evals.tokens)
    assert torch.equal(read.random_index, evals.random_index)


def test_a_damaged_or_foreign_file_is_refused(tmp_path):
    evals = ih.EvalSet.from_tokens(tokens(4))
    path = evals.save(tmp_path / "evals.safetensors")
    with pytest.raises(DamagedFileError, match="expected was 123; restore it"):
        ih.EvalSet.load(path, fingerprint="123")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="is no safetensors file or is truncated"):
        ih.EvalSet.load(path)
    save_file({"weights": tokens()}, path)
    with pytest.raises(DamagedFileError, match="holds no evaluation set but weights"):
        ih.EvalSet.load(path)
    with pytest.raises(DamagedFileError, match="does not exist"):
        ih.EvalSet.load(tmp_path / "nothing")
