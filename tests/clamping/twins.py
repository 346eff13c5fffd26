"""Slow and obvious versions of what clamps hold."""

from collections.abc import Callable

from torch import Tensor
from transformer_lens import HookedTransformer

import ih_lens as ih


def pattern_under(model: HookedTransformer, clamps: list[ih.Clamp], tokens: Tensor, layer: int = 0) -> Tensor:
    """The pattern of a layer as the model uses it under clamps, with gradients."""
    seen: list[Tensor] = []
    with ih.clamp(model, clamps), model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", _keep(seen))]):
        model(tokens)
    return seen[0]


def scores_of(model: HookedTransformer, tokens: Tensor, layer: int = 0) -> Tensor:
    """Attention scores before the softmax; what may not be attended to is minus infinity."""
    seen: list[Tensor] = []
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_attn_scores", _keep(seen))]):
        model(tokens)
    return seen[0]


def _keep(seen: list[Tensor]) -> Callable[..., None]:
    def hook(value: Tensor, hook: object) -> None:
        seen.append(value)

    return hook


def induction_keys(tokens: list[int], query: int, offset: int, n_prefix: int) -> list[int]:
    """Keys that continue an earlier occurrence of the last `n_prefix` tokens, moved by `offset`."""
    keys = []
    for end in range(query):  # where an earlier occurrence ends
        matches = all(end - b >= 0 and query - b >= 0 and tokens[end - b] == tokens[query - b] for b in range(n_prefix))
        if matches and 0 <= end + 1 + offset <= query:
            keys.append(end + 1 + offset)
    return keys


def induction_pattern(
    natural: Tensor, tokens: Tensor, ties: str = "uniform", offset: int = 0, n_prefix: int = 1
) -> Tensor:
    """[batch, query, key] with rows that have no target as they were."""
    held = natural.clone()
    for example, ids in enumerate(tokens.tolist()):
        for query in range(len(ids)):
            keys = induction_keys(ids, query, offset, n_prefix)
            if keys:
                chosen = {"uniform": keys, "latest": keys[-1:], "earliest": keys[:1]}[ties]
                held[example, query] = 0
                held[example, query, chosen] = 1 / len(chosen)
    return held
