import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch.utils._python_dispatch import TorchDispatchMode

from ih_lens.models import chunked_loss as module
from ih_lens.models.chunked_loss import chunked_loss
from tests.drawn_models import draws


def _inputs(n_rows, d_model, d_vocab, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x, W_U, b_U = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((n_rows, d_model), (d_model, d_vocab), (d_vocab,))
    )
    return (x, W_U, b_U), torch.randint(0, d_vocab, (n_rows,), generator=generator)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setitem(module._CHUNK_ENTRIES, "cpu", 1)
    monkeypatch.setattr(module, "_LEAST_ROWS", 3)


@draws(40)
@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(2, 12)),
    rows=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_agrees_with_cross_entropy_of_all_logits(sizes, rows, seed):
    inputs, targets = _inputs(*sizes, seed)
    x, W_U, b_U = inputs
    expected = F.cross_entropy(x @ W_U + b_U, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._CHUNK_ENTRIES, "cpu", 1)
        patch.setattr(module, "_LEAST_ROWS", rows)
        found = chunked_loss(*inputs, targets)
        with torch.no_grad():
            torch.testing.assert_close(chunked_loss(*inputs, targets), expected.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    slow, fast = (torch.autograd.grad(2.5 * loss, inputs) for loss in (expected, found))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_large_logits_overflow_nothing(small_chunks):
    (x, W_U, b_U), targets = _inputs(10, 4, 8, dtype=torch.float32)
    loss = chunked_loss(1e4 * x, W_U, b_U, targets)
    torch.testing.assert_close(loss, F.cross_entropy(1e4 * x @ W_U + b_U, targets), rtol=1e-5, atol=0)


def test_products_in_bfloat16_gradients_in_float32(small_chunks):
    inputs, targets = _inputs(50, 16, 30, dtype=torch.float32)
    exact = chunked_loss(*inputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = chunked_loss(*inputs, targets)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)
    for one, other in zip(torch.autograd.grad(rounded, inputs), torch.autograd.grad(exact, inputs), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


def test_no_tensor_holds_the_logits_of_more_than_a_chunk(monkeypatch):
    monkeypatch.setitem(module._CHUNK_ENTRIES, "cpu", 1)
    monkeypatch.setattr(module, "_LEAST_ROWS", 8)
    inputs, targets = _inputs(64, 4, 100)
    with _Largest() as largest:
        chunked_loss(*inputs, targets).backward()
    assert largest.n_entries == 8 * 100


def test_its_graph_is_walked_once(small_chunks):
    inputs, targets = _inputs(10, 4, 8)
    loss = chunked_loss(*inputs, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="call it again"):
        loss.backward()


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation gives."""

    n_entries = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        found = function(*arguments, **(named or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.n_entries = max(self.n_entries, tensor.numel())
        return found
