"""The row of kinds of induction that are attention to places, on GPT-2 small's shape."""

from functools import partial

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build
from ih_lens.measure.attention import AttentionReduction, measure_attention
from ih_lens.measure.head_evaluators._base import AttentionEvaluator

N_EXAMPLES = 10
REPEATED = ("duplicate_token", "anti_induction", "nearest_copy", "farthest_copy")
PREFIXES = {"two_token_prefix": 2, "three_token_prefix": 3, "four_token_prefix": 4}


def cases(plan: Plan) -> list[Case]:
    """The row of the table."""
    work = f"seven kinds of induction, {N_EXAMPLES} examples of each of their four sets of random tokens"
    by_hand = "cache of the patterns, times a mask per example and kind"
    opened = partial(_kinds, plan)
    return [Case("induction-kinds", work, by_hand, opened, None, n_examples=N_EXAMPLES, rounds=plan.rounds(5))]


def _kinds(plan: Plan) -> Contest:
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)
    evaluators = {name: ih.INDUCTION_KINDS[name].fitted(model) for name in (*REPEATED, *PREFIXES)}
    sets = [REPEATED, *((name,) for name in PREFIXES)]  # that share their tokens

    def inputs(seed: int, n_examples: int) -> list[Tensor]:
        chosen = (evaluators[names[0]].configured(n_examples=n_examples) for names in sets)
        return [evaluator.tokens(model, seed=seed) for evaluator in chosen]

    def ours(tokens_of_sets: list[Tensor]) -> Numbers:
        found: dict[str, Tensor] = {}
        for names, tokens in zip(sets, tokens_of_sets, strict=True):
            reductions = [_reduction(evaluators[name], model, tokens) for name in names]
            found |= dict(zip(names, measure_attention(model, tokens, reductions), strict=True))
        return found

    def by_hand(tokens_of_sets: list[Tensor]) -> Numbers:
        found: dict[str, Tensor] = {}
        for names, tokens in zip(sets, tokens_of_sets, strict=True):
            patterns = _patterns(model, tokens.to(plan.device))
            for name in names:
                masks = torch.stack([_mask(name, ids) for ids in tokens.tolist()])
                n_queries = (masks != 0).any(dim=-1).sum(dim=-1).to(patterns)
                weighted = (patterns * masks[:, None, None].to(patterns)).sum(dim=(-2, -1))
                found[name] = (weighted / n_queries[:, None, None]).mean(dim=0).cpu()
        return found

    return Contest(inputs=inputs, today=timed(by_hand, plan.device), ours=timed(ours, plan.device))


def _reduction(evaluator: object, model: HookedTransformer, tokens: Tensor) -> AttentionReduction:
    """What an evaluator makes of attention on these tokens."""
    if not isinstance(evaluator, AttentionEvaluator):
        raise TypeError(f"{evaluator} needs more than attention")
    return evaluator.reduction(model, tokens)


@torch.inference_mode()
def _patterns(model: HookedTransformer, tokens: Tensor) -> Tensor:
    """[example, layer, head, query, key]."""
    _, cache = model.run_with_cache(tokens, return_type=None, names_filter=lambda name: name.endswith("hook_pattern"))
    return torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)], dim=1)


def _mask(name: str, ids: list[int]) -> Tensor:
    """What attention from each query to each key counts, in one example."""
    mask = torch.zeros(len(ids), len(ids))
    for i, token in enumerate(ids):
        places = [p for p in range(i) if ids[p] == token]
        for key, weight in _weights(name, ids, i, places):
            mask[i, key] += weight
    return mask


def _weights(name: str, ids: list[int], i: int, places: list[int]) -> list[tuple[int, float]]:
    after = [p + 1 for p in places]
    if name == "duplicate_token":
        return [(p, 1.0) for p in places]
    if name == "anti_induction":
        before = [p - 1 for p in places if p > 0]
        return [*((key, 1.0) for key in before), *((key, -1.0) for key in after)] if before else []
    if name in ("nearest_copy", "farthest_copy"):
        chosen = after[-1:] if name == "nearest_copy" else after[:1]
        others = [key for key in after if key not in chosen]
        return [(chosen[0], 1.0), *((key, -1 / len(others)) for key in others)] if others else []
    n = PREFIXES[name]
    full = [p + 1 for p in places if ids[max(p + 1 - n, 0) : p + 1] == ids[i + 1 - n : i + 1]]
    last_only = [p + 1 for p in places if p == 0 or ids[p - 1] != ids[i - 1]]
    return [*((key, 1.0) for key in full), *((key, -1.0) for key in last_only)] if full and last_only else []
