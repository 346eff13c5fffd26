import threading
import warnings

import pytest
import torch

from ih_lens.models import matmul
from ih_lens.models.matmul import fastest_float32


def _setting() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(matmul, "_is_exact", lambda: True)


@pytest.fixture
def inexact(monkeypatch):
    monkeypatch.setattr(matmul, "_is_exact", lambda: False)


@pytest.mark.parametrize("shape", [(512, 768, 768), (7, 3, 5), (64, 2000, 64)])
def test_products_are_those_of_float32(shape):
    n_rows, n_terms, n_columns = shape
    left, right = torch.randn(n_rows, n_terms), torch.randn(n_terms, n_columns)
    exact = left.double() @ right.double()
    with fastest_float32():
        batched = torch.bmm(left.expand(3, -1, -1), right.expand(3, -1, -1))
        product = left @ right
    for found in (product, *batched):
        assert (found.double() - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_setting_is_put_back_also_after_an_error(exact):
    before = _setting()
    with pytest.raises(ValueError, match="bf16"), fastest_float32():
        raise ValueError(_setting())
    assert _setting() == before


def test_it_may_be_entered_inside_itself(exact):
    before = _setting()
    with fastest_float32():
        with fastest_float32():
            pass
        assert _setting() == "bf16"
    assert _setting() == before


def test_the_last_thread_puts_the_setting_back(exact):
    before = _setting()
    first_left = threading.Event()
    entered = threading.Event()

    def stay() -> None:
        with fastest_float32():
            entered.set()
            first_left.wait(10)
            seen.append(_setting())

    seen: list[str] = []
    other = threading.Thread(target=stay)
    with fastest_float32():
        other.start()
        entered.wait(10)
    first_left.set()
    other.join(10)
    assert seen == ["bf16"]
    assert _setting() == before


def test_nothing_changes_where_it_would_round(inexact):
    before = _setting()
    with fastest_float32():
        assert _setting() == before


def test_a_setting_of_the_user_is_kept(exact):
    before = _setting()
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    try:
        with fastest_float32():
            pass
        assert _setting() == "ieee"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


# what torch 2.9 says, once in a process, to whoever asks for the precision as below
@pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32")
def test_the_probe_is_quiet_and_draws_no_random_numbers():
    matmul._is_exact.cache_clear()
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matmul._is_exact()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_probe_tells_rounding_to_bfloat16(monkeypatch):
    product = torch.Tensor.__matmul__

    def rounding(left, right):
        if left.dtype == torch.float32:
            return product(left.bfloat16(), right.bfloat16()).float()
        return product(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    matmul._is_exact.cache_clear()
    try:
        assert not matmul._is_exact()
    finally:
        matmul._is_exact.cache_clear()
