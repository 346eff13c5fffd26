"""Losses made from numbers, without any model."""

from collections.abc import Sequence

import numpy as np
import torch

import ih_lens as ih
from ih_lens.results import stack_snapshots


def losses_of(
    full: np.ndarray,
    *,
    leading: dict[str, Sequence[object]] | None = None,
    at: Sequence[int] = (2, 9),
    window: int = 0,
    keep_all: bool = False,
    fingerprint: str = "made up",
) -> ih.TokenLosses:
    """Views of losses [..., example, context_index], as measuring would keep them; context indices count from 1."""
    n_examples, n_indices = full.shape[-2:]
    random_index = [1 + example % n_indices for example in range(n_examples)]
    views = {
        "random_token": np.stack([full[..., example, i - 1] for example, i in enumerate(random_index)], -1),
        "by_context_index": full.mean(-2),
        "at_indices": np.stack([full[..., max(0, i - 1 - window) : i + window].mean(-1) for i in at], -1),
        **({"full": full} if keep_all else {}),
    }
    kind = ih.AblationLosses if leading else ih.TokenLosses
    return kind.from_tensors(
        {name: torch.as_tensor(values) for name, values in views.items()},
        leading=leading,
        random_index=random_index,
        by_context_index=range(1, n_indices + 1),
        at_indices=at,
        provenance={"fingerprint": fingerprint, "window": window},
    )


def random_losses(seed: int, n_examples: int = 7, n_indices: int = 11, **settings: object) -> ih.TokenLosses:
    """Losses around 4 nats."""
    full = np.random.default_rng(seed).normal(4, 1, (n_examples, n_indices))
    return losses_of(full, **settings)  # type: ignore[arg-type]


def random_ablations(seed: int, n_examples: int = 7, n_indices: int = 11, **settings: object) -> ih.AblationLosses:
    """Losses after ablating each of 2 x 3 heads."""
    full = np.random.default_rng(seed).normal(4, 1, (2, 3, n_examples, n_indices))
    ablated = losses_of(full, leading={"layer": range(2), "head": range(3)}, **settings)  # type: ignore[arg-type]
    assert isinstance(ablated, ih.AblationLosses)
    return ablated


def stacked(*results: ih.TokenLosses, steps: Sequence[int] | None = None) -> ih.TokenLosses:
    """Over snapshots at steps 0, 10, 20, ..."""
    steps = list(range(0, 10 * len(results), 10)) if steps is None else steps
    return stack_snapshots(results, steps, [100 * step for step in steps])
