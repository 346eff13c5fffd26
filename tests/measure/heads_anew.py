"""What a head matches, copies and loses, computed anew with TransformerLens's own hooks, query by query."""

from collections.abc import Callable

import torch
from transformer_lens import HookedTransformer
from transformer_lens.hook_points import HookPoint

from tests.helpers import ZOO, tiny_model

HEAD = 1
DEEP = [kind for kind in ZOO if kind != "one_layer"]


def head_scores(model: HookedTransformer, tokens: torch.Tensor, head: tuple[int, int]) -> torch.Tensor:
    """[example, query, key] before the softmax; 0 where nothing is seen."""
    scores = model.run_with_cache(tokens)[1]["attn_scores", head[0]][:, head[1]].detach()
    return scores.masked_fill(~scores.isfinite(), 0.0)


def slow_match(scores: torch.Tensor, visible: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    """Mean at targets less mean elsewhere, query by query."""
    found = []
    for example in range(len(tokens)):
        queries = []
        for i in range(tokens.shape[1]):
            seen = [j for j in range(i + 1) if bool(visible[example, i, j])]
            at = [j for j in seen if j > 0 and tokens[example, j - 1] == tokens[example, i] and j - 1 < i]
            others = [j for j in seen if j not in at]
            if at and others:
                row = scores[example, i]
                queries.append(float(row[at].mean() - row[others].mean()))
        found.append(sum(queries) / len(queries))
    return found


def split_inputs(kind: str, **changes: object) -> HookedTransformer:
    model = tiny_model(kind, **changes)
    model.set_use_split_qkv_input(True)
    return model


def scores_of(model: HookedTransformer, tokens: torch.Tensor, side: str, written: torch.Tensor) -> torch.Tensor:
    """What something written into the residual stream adds to L1H1's scores: the difference that its removal makes.

    It is taken out of the head's keys or queries by a hook, through the norm at its actual scale.
    """
    _, cache = model.run_with_cache(tokens)
    if str(model.cfg.normalization_type).startswith("LN"):
        written = written - written.mean(dim=-1, keepdim=True)
    if model.cfg.normalization_type is not None:
        written = written / cache["blocks.1.ln1.hook_scale"] * model.blocks[1].ln1.w
    change = (written @ getattr(model.blocks[1].attn, f"W_{side.upper()}")[HEAD]).detach()
    column = HEAD // (model.cfg.n_heads // cache[side, 1].shape[2])
    kept: list[torch.Tensor] = []

    def without(activation: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        activation = activation.clone()
        activation[:, :, column] -= change
        return activation

    def keep(scores: torch.Tensor, hook: HookPoint) -> None:
        kept.append(scores[:, HEAD].detach())

    hooks = [(f"blocks.1.attn.hook_{side}", without), ("blocks.1.attn.hook_attn_scores", keep)]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    return head_scores(model, tokens, (1, HEAD)) - kept[0].masked_fill(~kept[0].isfinite(), 0.0)


def patched(
    model: HookedTransformer, tokens: torch.Tensor, side: str, change: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pattern and z of L1H1 with something taken out of one of TransformerLens's split inputs."""
    kept: dict[str, torch.Tensor] = {}

    def without(residual: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        n_inputs = residual.shape[2]
        residual = residual.clone()
        residual[:, :, HEAD // (model.cfg.n_heads // n_inputs)] -= change
        return residual

    def keep(name: str):
        return lambda activation, hook: kept.__setitem__(name, activation.detach())

    names = ("pattern", "z")
    hooks = [(f"blocks.1.hook_{side}_input", without), *((f"blocks.1.attn.hook_{name}", keep(name)) for name in names)]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    return kept["pattern"][:, HEAD], kept["z"][:, :, HEAD]


def mean_over_queries(
    tokens: torch.Tensor, of_targets: Callable[[int, int, list[int]], torch.Tensor | bool]
) -> list[float]:
    """For each example, the mean of a number over the queries that have targets, which it is given."""
    found = []
    for example in range(len(tokens)):
        sums = []
        for i in range(tokens.shape[1]):
            at = [j for j in range(1, i + 1) if tokens[example, j - 1] == tokens[example, i] and j - 1 < i]
            if at:
                sums.append(float(of_targets(example, i, at)))
        found.append(sum(sums) / len(sums))
    return found


def slow_prefix_matching(pattern: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    return mean_over_queries(tokens, lambda example, i, at: pattern[example, i, at].sum())


def slow_copied_logit(model: HookedTransformer, z: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    """What the head adds to the logit of the token at its targets, without the final scale."""
    written = z @ model.blocks[1].attn.W_O[HEAD]
    if str(model.cfg.normalization_type).startswith("LN"):
        written = written - written.mean(dim=-1, keepdim=True)
    if model.cfg.normalization_type is not None:
        written = written * model.ln_final.w
    logits = (written @ model.unembed.W_U).detach()
    logits = logits - logits.mean(dim=-1, keepdim=True)
    return mean_over_queries(tokens, lambda example, i, at: logits[example, i, tokens[example, at]].mean())


def head_visible(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    return model.run_with_cache(tokens)[1]["attn_scores", 1][:, HEAD].isfinite()
