import pytest
import torch
import torch.nn.functional as F

from ih_lens.models.linear import linear, linear_gelu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (0, 24)])
def test_they_are_pytorchs(dtype: torch.dtype, with_gradients: bool, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, matrix, bias = (torch.randn(s, generator=generator, dtype=dtype) for s in (shape, (24, 10), (10,)))
    with torch.set_grad_enabled(with_gradients):
        expected = F.linear(x, matrix.T, bias)
        torch.testing.assert_close(linear(x, matrix.T, bias), expected, rtol=1e-5, atol=1e-5)
        expected = F.gelu(expected, approximate="tanh")
        torch.testing.assert_close(linear_gelu(x, matrix.T, bias), expected, rtol=1e-5, atol=1e-5)


def test_gradients_flow() -> None:
    x, weight, bias = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3), torch.ones(4)
    linear_gelu(x, weight, bias).sum().backward()
    assert x.grad is not None
