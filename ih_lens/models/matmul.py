"""Float32 matrix products by the fastest routine of this CPU that keeps float32's accuracy."""

import functools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from ih_lens.models.autocast import without_autocast

_PROBED_SHAPES = ((512, 768, 768), (96, 64, 200), (128, 32, 512))
"""Rows, terms of each sum, columns."""
_LARGEST_ERROR = 1e-5
"""Relative to the largest entry of the product; bfloat16 gives about 1e-3, float32 about 1e-6."""


class _Switch:
    """PyTorch's process-wide setting of oneDNN's matrix products, shared by all who are inside at the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._before = 0, "none"

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = _set_onednn("bf16")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _set_onednn(self._before)


_switch = _Switch()


@contextmanager
def fastest_float32() -> Generator[None]:
    """Inside, float32 matrix products on the CPU are computed by oneDNN where that keeps float32's accuracy.

    PyTorch sends float32 products to MKL; oneDNN's are two to three times faster on CPUs that MKL does not favour.
    PyTorch offers oneDNN's only as "bf16", meaning that it may round its inputs. Without matrix units for bfloat16
    (AMX) it has been seen not to, and once per process some products are compared with float64 before it is used at
    all: what is computed inside is float32, up to the order of summation. Where the comparison fails, on CPUs with
    AMX, on GPUs and for other dtypes, nothing changes.

    The setting is the process's: it is put back when the last of all threads inside leaves, and what other threads
    compute meanwhile is float32 as well. It may be entered again inside itself. On a CPU,
    `F.scaled_dot_product_attention` is several times slower inside it: use `causal_attention`. Autocast that the caller
    has switched on is off inside.

    Examples:
        >>> with fastest_float32():
        ...     product = torch.randn(512, 768) @ torch.randn(768, 768)
    """
    with without_autocast():
        if not _is_exact():
            yield
            return
        _switch.enter()
        try:
            yield
        finally:
            _switch.leave()


@functools.cache
def _is_exact() -> bool:
    """Whether oneDNN's products on this CPU are float32's; measured at the first call of the process."""
    backend = torch.backends.mkldnn
    if not (backend.is_available() and hasattr(backend, "matmul")):  # PyTorch 2.8 had no such setting
        return False
    if torch.cpu._is_amx_tile_supported():  # pyright: ignore[reportPrivateUsage]
        return False
    _switch.enter()
    try:
        return all(_relative_error(*shape) < _LARGEST_ERROR for shape in _PROBED_SHAPES)
    finally:
        _switch.leave()


@torch.no_grad()
def _relative_error(n_rows: int, n_terms: int, n_columns: int) -> float:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(n_rows, n_terms, generator=generator, dtype=torch.float64, device="cpu").float()
    right = torch.randn(n_terms, n_columns, generator=generator, dtype=torch.float64, device="cpu").float()
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).abs().max() / exact.abs().max())


def _set_onednn(precision: str) -> str:
    """Set how oneDNN may multiply float32 matrices; returns how it might before."""
    matmul: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before: str = matmul.fp32_precision
    matmul.fp32_precision = precision
    return before
