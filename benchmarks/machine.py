"""The machine: what it is, and how fast it multiplies matrices, measured in the same run as everything else."""

import os
import platform
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from benchmarks.harness import now
from ih_lens.models.files import library_versions

P = ParamSpec("P")
T = TypeVar("T")


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, cores, memory, system and versions; the card where there is one."""
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": library_versions(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }
    if torch.device(device).type == "cuda":
        described["card"] = torch.cuda.get_device_name(device)
    return described


def matmul_ceilings(device: str, size: int | None = None, repeats: int = 9) -> dict[str, float]:
    """Floating-point operations per second of a large product, the best of several, per precision.

    On a CPU "float32" is the faster of the two libraries that PyTorch has for it.
    """
    on_cpu = torch.device(device).type == "cpu"
    n = size or (1024 if on_cpu else 8192)
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    half_a, half_b = a.bfloat16(), b.bfloat16()
    products: dict[str, Callable[[], Any]] = {"bfloat16": lambda: half_a @ half_b}
    if on_cpu:
        products["float32 MKL"] = lambda: a @ b
        products["float32 oneDNN"] = onednn(lambda: a @ b)
    else:
        products["float32"] = lambda: _with_tf32(False, lambda: a @ b)
        products["float32 TF32"] = lambda: _with_tf32(True, lambda: a @ b)
    seconds = {name: float("inf") for name in products}
    for _ in range(repeats + 1):  # the first is slow and so never the best
        for name, product in products.items():
            start = now(device)
            product()
            seconds[name] = min(seconds[name], now(device) - start)
    ceilings = {name: 2 * n**3 / taken for name, taken in seconds.items()}
    if on_cpu:
        ceilings["float32"] = max(ceilings["float32 MKL"], ceilings["float32 oneDNN"])
    return ceilings


def best_of(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """The higher of two measurements of each ceiling."""
    return {name: max(value, second[name]) for name, value in first.items()}


@contextmanager
def one_thread() -> Generator[None]:
    """Inside, PyTorch uses one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def onednn(work: Callable[P, T]) -> Callable[P, T]:
    """The same work with float32 matrix products by oneDNN; on processors with AMX they may round to bfloat16."""
    setting: Any = torch.backends.mkldnn

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        before = setting.matmul.fp32_precision
        setting.matmul.fp32_precision = "bf16"
        try:
            return work(*args, **kwargs)
        finally:
            setting.matmul.fp32_precision = before

    return run


def _with_tf32(allowed: bool, product: Callable[[], Any]) -> Any:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        return product()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor()
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{values.get('model name', platform.machine())} (family {values.get('cpu family', '?')})"
