"""How far a sequence repeats itself: loops at its end, and how many of its n-grams differ."""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.validate import at_least, token_batch


def repetition(
    tokens: Tensor, *, min_repeats: int = 3, max_period: int | None = None, max_n: int = 4, min_length: int = 4
) -> xr.Dataset:
    """Whether each sequence ends in a loop, since when, and how varied it is.

    A loop is a cycle of some tokens that is repeated at least `min_repeats` times up to the end, whole or broken off
    in the last one. Of all periods the one with the longest loop counts, of equal ones the shortest.

    Args:
        tokens: ids [example, pos], as generated; without a prompt.
        min_repeats: how often a cycle must have been gone through, at least 2.
        max_period: longest cycle; by default what fits `min_repeats` times.
        max_n: distinct n-grams are counted for n = 1 .. max_n.
        min_length: shortest loop: so that two or three equal tokens at the end, which text has by chance, are none.

    Returns:
        Over `example`: `in_loop`, the share of tokens in the loop (0 without one); `time_to_loop`, the number of
        tokens before its first one (NaN without one); `period` (0 without one). `distinct` [example, n]: different
        n-grams over n-grams, from near 0 for a loop to 1; NaN where the sequence is shorter than n.

    Raises:
        InputError: if the tokens are no integer matrix, or a number is too small.

    Examples:
        >>> found = repetition(torch.tensor([[7, 1, 2, 1, 2, 1, 2]]))
        >>> found["period"].item(), found["time_to_loop"].item()
        (2, 1.0)
    """
    at_least("min_repeats", min_repeats, 2)
    at_least("min_length", min_length, 2)
    ids = token_batch(tokens, min_length=1).detach().to("cpu", torch.int64)
    longest = ids.shape[1] // min_repeats
    periods = range(1, longest + 1 if max_period is None else min(longest, at_least("max_period", max_period, 1)) + 1)
    length, period = torch.zeros(2, len(ids), dtype=torch.int64, device="cpu")
    for candidate in periods:
        same = ids[:, candidate:] == ids[:, :-candidate]
        repeated = candidate + same.flip(1).long().cumprod(dim=1).sum(dim=1)
        is_longer = (repeated >= max(min_repeats * candidate, min_length)) & (repeated > length)
        length, period = torch.where(is_longer, repeated, length), torch.where(is_longer, candidate, period)
    n_pos = ids.shape[1]
    waited = np.where(length.numpy() > 0, n_pos - length.numpy(), np.nan)
    lengths = range(1, at_least("max_n", max_n, 1) + 1)
    distinct = np.stack([_distinct(ids, n) for n in lengths], axis=1)
    return xr.Dataset(
        {
            "in_loop": ("example", length.numpy() / n_pos),
            "time_to_loop": ("example", waited),
            "period": ("example", period.numpy()),
            "distinct": (("example", "n"), distinct),
        },
        {"n": list(lengths)},
        {
            "definition": f"the longest cycle that is repeated {min_repeats} times or more up to the end",
            "min_repeats": min_repeats,
            "min_length": min_length,
            "max_period": longest if max_period is None else max_period,
            "n_tokens": n_pos,
        },
    )


def _distinct(ids: Int[Tensor, "example pos"], n: int) -> np.ndarray:
    """Different n-grams over n-grams, of each example."""
    if ids.shape[1] < n:
        return np.full(len(ids), np.nan)
    grams = ids.unfold(1, n, 1)
    counts = [len(example.unique(dim=0)) for example in grams]
    return np.array(counts) / grams.shape[1]


def require_room(n_tokens: int, n_ctx: int) -> None:
    """Refuse sequences that outgrow the context: what falls out of sight would change what is measured.

    Raises:
        InputError: if they do.
    """
    if n_tokens > n_ctx:
        raise InputError(
            f"{n_tokens} tokens, prompt and what is generated, do not fit the model's context of {n_ctx}; use shorter "
            "prompts or generate fewer"
        )
