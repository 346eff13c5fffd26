"""The row of path patching: every earlier head into the keys and queries of one head, on GPT-2 small's shape."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

import ih_lens as ih
from benchmarks.harness import Case, Contest, Numbers, sampled, timed
from benchmarks.plan import Plan
from benchmarks.shapes import build
from benchmarks.today_ablation import Head, spread_heads

PERIOD, REPEATS, N_EXAMPLES = 25, 4, 10
SIDES = ("k", "q")


def cases(plan: Plan) -> list[Case]:
    """The row of the table."""
    work = f"path_effects: all earlier heads into a head of the middle layer, {N_EXAMPLES} x {PERIOD * REPEATS} tokens"
    by_hand = "hook_k_input and hook_q_input with split inputs, up to that layer, of 2 heads, scaled to all"
    opened = partial(_paths, plan)
    return [Case("path-effects", work, by_hand, opened, None, n_examples=N_EXAMPLES, rounds=plan.rounds(5))]


def _paths(plan: Plan) -> Contest:
    model = build("GPT-2 small", tiny=plan.tiny, device=plan.device)
    layer = max(1, model.cfg.n_layers // 2 - 1)
    reader = (layer, 1)
    sources = spread_heads(layer, model.cfg.n_heads, 2)
    period = min(PERIOD, model.cfg.n_ctx // REPEATS)

    def inputs(seed: int, n_examples: int) -> Tensor:
        tokens = ih.repeated_random_tokens(model, length=period, repeats=REPEATS, n_examples=n_examples, seed=seed)
        return tokens.to(plan.device)

    def by_hand(tokens: Tensor, written: dict[Head, Tensor]) -> Numbers:
        def of_side(side: str) -> Tensor:
            patched = [_patched(model, tokens, reader, side, written[source], period) for source in sources]
            return torch.stack(patched)

        return {side: of_side(side) for side in SIDES}

    def ours(tokens: Tensor) -> Numbers:
        found = ih.path_effects(model, reader, tokens)["without"]
        return {side: torch.from_numpy(found.sel(side=side).to_numpy().copy()) for side in SIDES}

    places = [source_layer * model.cfg.n_heads + source for source_layer, source in sources]
    return Contest(
        inputs=inputs,
        today=sampled(
            partial(_written, model, sources), by_hand, layer * model.cfg.n_heads / len(sources), plan.device
        ),
        ours=timed(ours, plan.device),
        as_today=lambda numbers: {side: values[places] for side, values in numbers.items()},
    )


@torch.inference_mode()
def _written(model: HookedTransformer, heads: list[Head], tokens: Tensor) -> dict[Head, Tensor]:
    """What each of these heads writes."""
    _, cache = model.run_with_cache(tokens, return_type=None, names_filter=lambda name: name.endswith("hook_z"))
    return {(layer, head): cache["z", layer][:, :, head] @ model.blocks[layer].attn.W_O[head] for layer, head in heads}


@torch.inference_mode()
def _patched(model: HookedTransformer, tokens: Tensor, reader: Head, side: str, change: Tensor, period: int) -> Tensor:
    """Prefix matching [example] of the reader with something taken out of one of its split inputs."""
    layer, head = reader
    kept: list[Tensor] = []

    def take_out(residual: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        residual[:, :, head] -= change
        return residual

    def keep(pattern: Tensor, hook: Any) -> None:  # noqa: ARG001
        kept.append(pattern[:, head])

    hooks: list[Any] = [(f"blocks.{layer}.hook_{side}_input", take_out), (f"blocks.{layer}.attn.hook_pattern", keep)]
    model.set_use_split_qkv_input(True)
    model.run_with_hooks(tokens, return_type=None, stop_at_layer=layer + 1, fwd_hooks=hooks)
    model.set_use_split_qkv_input(False)
    stripes = [kept[0].diagonal(1 - back, dim1=1, dim2=2)[:, 1:] for back in range(period, tokens.shape[1], period)]
    n_queries = tokens.shape[1] - period
    return torch.stack([stripe.sum(dim=1) for stripe in stripes]).sum(dim=0) / n_queries
