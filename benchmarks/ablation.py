"""The rows of ablations: every head of each model, by `ih.ablate_heads` and as one does it today."""

from dataclasses import dataclass

import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build, new_tokens
from benchmarks.today_ablation import TodayAblation, spread_heads

INDICES = (50, 500)
"""The context indices beside the random one, as the paper's in-context learning score takes them."""


@dataclass(frozen=True)
class _Row:
    """What differs from row to row; `n_sampled` heads are ablated by the code of today where not all are."""

    name: str
    shape: str
    target: float | None
    n_examples: int = 1
    rounds: int = 5
    kind: str = "pattern_preserving"
    all_positions: bool = False
    n_sampled: int | None = None
    unembeds_rows_only: bool = False
    n_warm_up: int = 1


ROWS = (
    _Row("ablation-2L", "2 layers", 90, n_examples=48, rounds=3),
    _Row("ablation-2L-all-positions", "2 layers", 5.5, n_examples=4, all_positions=True),
    _Row("ablation-2L-full", "2 layers", 75, n_examples=16, kind="full"),
    _Row("ablation-4L-mlps", "4 layers with MLPs", 12, n_examples=2),
    _Row("ablation-4L-mlps-all-positions", "4 layers with MLPs", 4, n_examples=2, all_positions=True),
    _Row("ablation-paper", "paper, 2 layers", 120, n_examples=2, rounds=3, n_sampled=4),
    _Row("ablation-gpt2", "GPT-2 small", 8, rounds=3, n_sampled=6, n_warm_up=0),
    _Row("ablation-rotary", "rotary", 5, n_examples=2, rounds=3, n_sampled=8),
    _Row("ablation-rmsnorm", "RMSNorm", 5, n_examples=2, rounds=3, n_sampled=8),
    _Row("ablation-grouped-query", "grouped-query", 5, n_examples=2, rounds=3, n_sampled=8),
    _Row("ablation-local", "local attention", 5, n_examples=2, rounds=3, n_sampled=8),
    _Row("ablation-2L-unembedding-rows", "2 layers", None, n_examples=8, unembeds_rows_only=True),
    _Row("ablation-paper-unembedding-rows", "paper, 2 layers", None, 2, 3, n_sampled=4, unembeds_rows_only=True),
    _Row("ablation-gpt2-unembedding-rows", "GPT-2 small", None, 1, 1, n_sampled=6, unembeds_rows_only=True),
)


def cases(plan: Plan) -> list[Case]:
    """The rows of the table."""
    return [_case(row, plan) for row in ROWS]


def _case(row: _Row, plan: Plan) -> Case:
    where = "all positions" if row.all_positions else "the random index and two context indices"
    kind = row.kind.replace("_", "-")
    sample = "" if row.n_sampled is None else f", on {row.n_sampled} heads, scaled to all"
    how = "run_with_hooks per head, unembedding rows only" if row.unembeds_rows_only else "run_with_hooks per head"
    return Case(
        name=row.name,
        work=f"{kind} ablation of every head, {row.shape}, losses at {where}",
        today=how + sample,
        open=lambda: _open(row, plan),
        target=row.target,
        n_examples=plan.examples(row.n_examples),
        rounds=plan.rounds(row.rounds),
        n_warm_up=row.n_warm_up,
        measures_memory=not row.unembeds_rows_only,
        one_by_one=True,
    )


def _open(row: _Row, plan: Plan) -> Contest:
    model = build(row.shape, tiny=plan.tiny, device=plan.device)
    n_pos = min(model.cfg.n_ctx, 512)
    indices = None if row.all_positions else tuple(index * n_pos // 512 for index in INDICES)
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    heads = spread_heads(n_layers, n_heads, row.n_sampled)
    times = n_layers * n_heads / len(heads)
    today = TodayAblation(model, heads, times, row.kind == "pattern_preserving", indices, row.unembeds_rows_only)

    def as_today(numbers: Numbers) -> Numbers:
        return {"losses": torch.stack([numbers["losses"][head] for head in heads])}

    return Contest(
        inputs=lambda seed, n_examples: ih.EvalSet.from_tokens(new_tokens(model, n_examples, n_pos, seed), seed=seed),
        today=today,
        ours=timed(lambda evals: ablate(model, evals, row.kind, indices), plan.device),
        as_today=as_today,
    )


def ablate(model: HookedTransformer, evals: ih.EvalSet, kind: str, indices: tuple[int, ...] | None) -> Numbers:
    """Losses [layer, head, example, index], or means over examples [layer, head, context_index], by this library."""
    chosen = "all" if indices is None else indices
    ablated = ih.ablate_heads(model, evals, kind=kind, context_indices=chosen, progress=False)
    if ablated.attrs["forward"] != "fused":
        raise RuntimeError("the ablation engine does not cover this model: the general path was taken")
    if indices is None:
        return {"losses": torch.from_numpy(ablated.by_context_index.to_numpy())}
    random_token = torch.from_numpy(ablated.random_token.to_numpy())[..., None]
    return {"losses": torch.cat([random_token, torch.from_numpy(ablated.at_indices.to_numpy())], dim=-1)}
