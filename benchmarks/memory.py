"""Peak memory and floating-point operations of one side of a case, in a process of its own."""

import ctypes
import gc
import math
import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Case, Contest, Side
from benchmarks.plan import Plan

Which = Literal["today", "ours"]
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # written to /proc/self/clear_refs, it makes the present memory the highest so far


@dataclass(frozen=True)
class Cost:
    """What one call took.

    Attributes:
        extra_bytes: most memory during the call over that before it, model and inputs being there; None where the
            system does not tell.
        operations: floating-point operations in matrix products, as `torch.utils.flop_counter` counts them.
    """

    extra_bytes: int | None
    operations: int


def cost_in_own_process(case_name: str, which: Which, plan: Plan) -> Cost:
    """Run one side of a case once in a fresh process that has imported everything and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.cases"])
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(_measure, case_name, which, plan).result()


def _measure(case_name: str, which: Which, plan: Plan) -> Cost:
    from benchmarks.cases import find_case

    torch.set_num_threads(1)
    small = find_case(case_name, replace(plan, tiny=True))
    cost_of(small.open(), which, small)  # imports what is imported at the first call
    case = find_case(case_name, plan)
    return cost_of(case.open(), which, case)


def cost_of(contest: Contest, which: Which, case: Case, seed: int = 1000) -> Cost:
    """Run one side once in this process."""
    inputs = contest.inputs(seed, 1 if which == "today" and case.one_by_one else case.n_examples)
    side: Side = getattr(contest, which)
    with operations_counter() as counter, PeakMemory() as peak:
        side(inputs)
    return Cost(peak.extra_bytes, counter.get_total_flops())


def operations_counter() -> FlopCounterMode:
    """PyTorch's counter, with the matrix products that it does not know: in place, and oneDNN's with a bias."""
    operators: Any = torch.ops
    known: dict[Any, Any] = {operators.aten.addmm_: _of_addmm}
    if hasattr(operators.mkldnn, "_linear_pointwise"):
        known[operators.mkldnn._linear_pointwise] = _of_linear
    return FlopCounterMode(display=False, custom_mapping=known)


def _of_addmm(_: Any, a: Sequence[int], b: Sequence[int], **_options: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


def _of_linear(x: Sequence[int], weight: Sequence[int], *_rest: Any, **_options: Any) -> int:
    return 2 * math.prod(x) * weight[0]


class PeakMemory:
    """Inside, watches how far memory grows: the card's where one is used, else the process's resident memory."""

    def __init__(self) -> None:
        self.extra_bytes: int | None = None
        self._before = 0

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        elif _STATUS.exists():
            _give_back_freed_memory()
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
            self._before = _resident("VmRSS")
        return self

    def __exit__(self, *error: Any) -> None:
        if torch.cuda.is_initialized():
            self.extra_bytes = torch.cuda.max_memory_allocated() - self._before
        elif _STATUS.exists():
            self.extra_bytes = max(0, _resident("VmHWM") - self._before)


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


def _give_back_freed_memory() -> None:
    """So that a call that reuses what was freed before it does not look smaller than it is."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
