"""The paper's whole ablation row for one snapshot of its two-layer model: 10,000 examples of 512 tokens, on a card."""

from dataclasses import dataclass

import torch

import ih_lens as ih
from benchmarks.ablation import INDICES, ablate
from benchmarks.harness import now
from benchmarks.memory import PeakMemory, operations_counter
from benchmarks.plan import Plan
from benchmarks.shapes import build, new_tokens

N_EXAMPLES, N_SNAPSHOTS = 10_000, 200


@dataclass(frozen=True)
class PaperRow:
    """What one snapshot cost.

    Attributes:
        n_examples: examples of 512 tokens.
        seconds: for one snapshot, tokens on the CPU as an evaluation set has them, losses back on the CPU.
        hours_for_all_snapshots: that times 200, without reading them from disk.
        operations: floating-point operations in matrix products, counted on a hundredth of the examples.
        extra_bytes: peak memory of the card over that of the model.
    """

    n_examples: int
    seconds: float
    hours_for_all_snapshots: float
    operations: float
    extra_bytes: int | None


def measure(plan: Plan) -> PaperRow:
    """All heads of the model of the paper's size, pattern-preserving, losses at random index and two others."""
    n_examples = 4 if plan.tiny else N_EXAMPLES
    model = build("paper, 2 layers", tiny=plan.tiny, device=plan.device)
    n_pos = model.cfg.n_ctx
    indices = tuple(index * n_pos // 512 for index in INDICES)

    def evals(seed: int, n: int) -> ih.EvalSet:
        return ih.EvalSet.from_tokens(new_tokens(model, n, n_pos, seed), seed=seed)

    few, share = max(1, n_examples // 100), n_examples / max(1, n_examples // 100)
    with operations_counter() as counter:
        ablate(model, evals(0, few), "pattern_preserving", indices)
    whole = evals(1, n_examples)
    with PeakMemory() as peak:
        start = now(plan.device)
        ablate(model, whole, "pattern_preserving", indices)
        seconds = now(plan.device) - start
    if plan.device != "cpu":
        torch.cuda.empty_cache()
    return PaperRow(
        n_examples, seconds, N_SNAPSHOTS * seconds / 3600, share * counter.get_total_flops(), peak.extra_bytes
    )
