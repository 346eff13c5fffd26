"""The rows of head scores and logit attribution, on a model of GPT-2 small's shape as `from_pretrained` gives it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks import today_evaluators as today
from benchmarks.harness import Case, Contest, Numbers, sampled, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build, new_tokens
from benchmarks.today_ablation import spread_heads

Open = Callable[[Plan, HookedTransformer], Contest]
PERIOD, REPEATS, N_EXAMPLES = 25, 4, 10


def cases(plan: Plan) -> list[Case]:
    """The rows of the table."""
    n_pos = 512

    def case(name: str, work: str, how: str, opened: Open, target: float | None, **settings: Any) -> Case:
        settings = {"rounds": 5, "n_examples": N_EXAMPLES, **settings}
        settings["rounds"] = plan.rounds(settings["rounds"])
        return Case(name, f"{work}, GPT-2 small", how, lambda: opened(plan, _processed(plan)), target, **settings)

    return [
        case(
            "copying",
            f"copying score of every head, {N_EXAMPLES} x {PERIOD} tokens",
            "full-vocabulary logits per head and example, on 2 heads, scaled",
            _copying,
            100,
        ),
        case(
            "ov-eigenvalues",
            "OV eigenvalues of every head",
            "FactoredMatrix per head, on 2 heads, scaled",
            _ov_eigenvalues,
            50,
        ),
        case(
            "qk-trace",
            "QK-eigenvalue trace of every head",
            "FactoredMatrix per pair of heads, on 2 pairs, scaled",
            _qk_trace_per_pair,
            100,
        ),
        case(
            "qk-trace-per-head",
            "QK-eigenvalue trace of every head",
            "FactoredMatrix per head, earlier heads summed beforehand, on 4 heads, scaled",
            _qk_trace_per_head,
            None,
        ),
        case(
            "attribution",
            f"logit attribution of every head, 1 x {n_pos} tokens",
            "full-vocabulary logits per head, on 2 heads, scaled",
            lambda plan, model: _attribution(plan, model, n_pos),
            100,
            n_examples=1,
        ),
        case(
            "patterns",
            f"prefix matching and previous token of every head, {N_EXAMPLES} x {PERIOD * REPEATS} tokens",
            "run_with_cache of patterns only, then stripes",
            _patterns,
            3.3,
        ),
    ]


def _processed(plan: Plan) -> HookedTransformer:
    """Norms and value biases folded, writing weights and unembedding centred, as `from_pretrained` does."""
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)
    model.load_and_process_state_dict(
        model.state_dict(), fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True
    )
    return model


@torch.no_grad()
def _vary(model: HookedTransformer, seed: int) -> None:
    """New weights: each token's embedding a little longer or shorter, so that nothing can have been remembered."""
    lengths = 1 + 0.1 * torch.rand(model.cfg.d_vocab, 1, generator=torch.Generator().manual_seed(seed))
    model.embed.W_E.mul_(lengths.to(model.embed.W_E))


def _sample(model: HookedTransformer, n_sampled: int, first_layer: int = 0) -> tuple[list[tuple[int, int]], float]:
    """Some heads, and how many times as many there are."""
    n_layers = model.cfg.n_layers - first_layer
    heads = [(layer + first_layer, head) for layer, head in spread_heads(n_layers, model.cfg.n_heads, n_sampled)]
    return heads, n_layers * model.cfg.n_heads / len(heads)


def _chosen(heads: list[tuple[int, int]], name: str = "scores") -> Callable[[Numbers], Numbers]:
    """From scores [layer, head, ...] to those of some heads."""
    return lambda numbers: {name: torch.stack([numbers[name][head] for head in heads])}


def _copying(plan: Plan, model: HookedTransformer) -> Contest:
    heads, times = _sample(model, 2)

    def by_hand(tokens: Tensor, cache: Any) -> Numbers:
        return {"scores": today.copying(model, tokens, cache, heads)}

    return Contest(
        inputs=lambda seed, n: ih.random_tokens(model, length=PERIOD, n_examples=n, seed=seed).to(plan.device),
        today=sampled(
            lambda tokens: today.cache_of(model, tokens, "hook_v", "hook_pattern"), by_hand, times, plan.device
        ),
        ours=timed(lambda tokens: {"scores": ih.copying_score(model, tokens)}, plan.device),
        as_today=_chosen(heads),
    )


def _ov_eigenvalues(plan: Plan, model: HookedTransformer) -> Contest:
    heads, times = _sample(model, 2)
    return Contest(
        inputs=lambda seed, _: _vary(model, seed),
        today=sampled(lambda _: None, lambda *_: {"scores": today.ov_eigenvalues(model, heads)}, times, plan.device),
        ours=timed(lambda _: {"scores": ih.ov_copying_eigenvalue_score(model)}, plan.device),
        as_today=_chosen(heads),
    )


def _qk_trace_per_pair(plan: Plan, model: HookedTransformer) -> Contest:
    """The trace of one head of the second layer that the sampled pairs make up, other earlier heads scoring 0."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    earlier = [(0, 0), (0, n_heads - 1)]
    pairs = [((1, 1), before) for before in earlier]
    n_pairs = n_heads**2 * n_layers * (n_layers - 1) // 2

    def inputs(seed: int, _: int) -> Tensor:
        scores = torch.zeros(n_layers, n_heads)
        drawn = torch.rand(len(earlier), generator=torch.Generator().manual_seed(seed))
        for head, score in zip(earlier, drawn, strict=True):
            scores[head] = score
        return scores

    return Contest(
        inputs=inputs,
        today=sampled(
            lambda _: None,
            lambda scores, _: {"scores": today.qk_trace_per_pair(model, scores, pairs).sum()[None]},
            n_pairs / len(pairs),
            plan.device,
        ),
        ours=timed(lambda scores: {"scores": ih.qk_eigenvalue_trace(model, scores)}, plan.device),
        as_today=_chosen([(1, 1)]),
        relative=True,
    )


def _qk_trace_per_head(plan: Plan, model: HookedTransformer) -> Contest:
    heads, times = _sample(model, 4, first_layer=1)
    shape = (model.cfg.n_layers, model.cfg.n_heads)

    return Contest(
        inputs=lambda seed, _: torch.rand(shape, generator=torch.Generator().manual_seed(seed)),
        today=sampled(
            lambda scores: today.written_before(model, scores),
            lambda _, written: {"scores": today.qk_trace_per_head(model, written, heads)},
            times,
            plan.device,
        ),
        ours=timed(lambda scores: {"scores": ih.qk_eigenvalue_trace(model, scores)}, plan.device),
        as_today=_chosen(heads),
        relative=True,
    )


def _attribution(plan: Plan, model: HookedTransformer, n_pos: int) -> Contest:
    heads, times = _sample(model, 2)
    n_pos = min(n_pos, model.cfg.n_ctx)

    def by_hand(tokens: Tensor, cache: Any) -> Numbers:
        return {"scores": today.attribution(model, tokens, cache, heads)}

    return Contest(
        inputs=lambda seed, n: new_tokens(model, n, n_pos, seed).to(plan.device),
        today=sampled(
            lambda tokens: today.cache_of(model, tokens, "hook_v", "hook_pattern", "ln_final.hook_scale"),
            by_hand,
            times,
            plan.device,
        ),
        ours=timed(lambda tokens: {"scores": ih.logit_attribution(model, tokens)}, plan.device),
        as_today=lambda numbers: _chosen(heads)({"scores": numbers["scores"][0]}),
    )


def _patterns(plan: Plan, model: HookedTransformer) -> Contest:
    period = min(PERIOD, model.cfg.n_ctx // REPEATS)
    names = ("prefix_matching", "previous_token")

    def by_hand(seed_and_n: tuple[int, int]) -> Numbers:
        seed, n_examples = seed_and_n
        tokens = ih.repeated_random_tokens(model, length=period, repeats=REPEATS, n_examples=n_examples, seed=seed)
        cache = today.cache_of(model, tokens.to(plan.device), "hook_pattern")
        return today.stripes(cache, model.cfg.n_layers, period, REPEATS)

    def scores(seed_and_n: tuple[int, int]) -> Numbers:
        seed, n_examples = seed_and_n
        settings = {"length": period, "repeats": REPEATS, "n_examples": n_examples}
        found = ih.score_heads(model, seed=seed, evaluators=names, **settings)
        return {name: found.to_tensor(name) for name in names}

    return Contest(
        inputs=lambda seed, n: (seed, n),
        today=timed(by_hand, plan.device),
        ours=timed(scores, plan.device),
    )
