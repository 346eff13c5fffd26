"""A linear map and the activation function behind it in one pass over its output, where PyTorch offers that."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LARGEST_ERROR = 1e-5
"""Of values around 1, in float32."""


def linear(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d_out"]
) -> Float[Tensor, "*batch d_out"]:
    """`torch.nn.functional.linear`; on a CPU without gradients the bias costs no pass of its own."""
    return _onednn(x, weight, bias, "none", "") if _is_covered(x, weight) else F.linear(x, weight, bias)


def linear_gelu(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d_out"]
) -> Float[Tensor, "*batch d_out"]:
    """GELU by tanh ("gelu_new") of a linear map.

    Examples:
        >>> x, weight, bias = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
        >>> torch.allclose(linear_gelu(x, weight, bias), F.gelu(x @ weight.T + bias, approximate="tanh"), atol=1e-5)
        True
    """
    if _is_covered(x, weight):
        return _onednn(x, weight, bias, "gelu", "tanh")
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def _is_covered(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes this, without gradients and in float32."""
    dtypes = {x.dtype, weight.dtype}
    if torch.is_grad_enabled() or x.device.type != "cpu" or dtypes != {torch.float32} or x.numel() == 0:
        return False
    if not weight.is_contiguous() and not weight.T.is_contiguous():
        return False  # on a part of a matrix oneDNN takes a thousand times longer
    return not torch.is_autocast_enabled("cpu") and _is_exact()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor, activation: str, algorithm: str) -> Tensor:
    """What PyTorch's compiler calls for the two together; nothing public gives it."""
    operator: Any = torch.ops.mkldnn._linear_pointwise  # pyright: ignore[reportPrivateUsage]
    return operator(x, weight, bias, activation, [], algorithm)


@functools.cache
def _is_exact() -> bool:
    """Whether this PyTorch has the operator and it gives float32's numbers; looked at once per process."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")
        for shape in ((37, 96), (40, 96), (40,))
    )
    weight /= 96**0.5
    expected = F.linear(x.double(), weight.double(), bias.double())
    try:
        found = _onednn(x, weight, bias, "none", ""), _onednn(x, weight, bias, "gelu", "tanh")
    except (AttributeError, RuntimeError):
        return False
    pairs = zip(found, (expected, F.gelu(expected, approximate="tanh")), strict=True)
    return all(float((values.double() - exact).abs().max()) < _LARGEST_ERROR for values, exact in pairs)
