"""Tokens that a copy of what came after an earlier occurrence would get right: from the tokens alone."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ih_lens.validate import at_least, one_of, token_batch

OCCURRENCES = ("any", "nearest")
TOKEN_CLASSES = ("predictable", "mispredicted", "unmatched")
"""Every predicted token is of one of them; see `token_classes`."""


def predictable_tokens(tokens: Tensor, *, n: int = 1, occurrence: str = "any") -> Bool[Tensor, "example pos"]:
    """Where induction from the context can be right: the last n tokens came before, followed by the present token.

    Args:
        tokens: ids [example, pos].
        n: how many tokens before the predicted one must occur earlier in the example, in this order.
        occurrence: "any": some earlier occurrence was followed by the present token; "nearest": the latest one was.

    Returns:
        True at each such context index, zero-based, of the predicted token; never in the first n + 1.

    Raises:
        InputError: if the tokens are no integer matrix, n is below 1, or the occurrence is another.

    Examples:
        >>> predictable_tokens(torch.tensor([[5, 6, 7, 5, 6, 9]]))
        tensor([[False, False, False, False,  True, False]])
    """
    return token_classes(tokens, n=n, occurrence=occurrence)["predictable"]


def token_classes(tokens: Tensor, *, n: int = 1, occurrence: str = "any") -> dict[str, Bool[Tensor, "example pos"]]:
    """The predicted tokens by what induction from the context would say of them.

    Args:
        tokens: as `predictable_tokens`.
        n: as `predictable_tokens`.
        occurrence: as `predictable_tokens`.

    Returns:
        "predictable" as `predictable_tokens`; "mispredicted": the last n tokens came before, but what followed them
        was something else; "unmatched": they did not come before. Each context index from 1 on is in exactly one,
        index 0, which nothing predicts, in none.

    Raises:
        InputError: as `predictable_tokens`.

    Examples:
        >>> {name: int(mask.sum()) for name, mask in token_classes(tokens).items()}
        {'predictable': 310, 'mispredicted': 120, 'unmatched': 82}
    """
    one_of("occurrence", occurrence, OCCURRENCES)
    ids = token_batch(tokens, min_length=2).detach().to("cpu", torch.int64)
    before = _ids_of_runs(ids, at_least("n", n, 1))
    latest = _latest_same(before)
    matched = torch.nn.functional.pad(latest[:, :-1] >= 0, (1, 0))  # what ends before the predicted token came before
    if occurrence == "nearest":
        followed = ids.gather(1, (latest + 1).clamp(max=ids.shape[1] - 1))
        predictable = matched & torch.nn.functional.pad(followed[:, :-1] == ids[:, 1:], (1, 0))
    else:
        predictable = _latest_same(_one_longer(before, ids)) >= 0
    predicted = torch.arange(ids.shape[1], device="cpu").expand_as(ids) > 0
    return {
        "predictable": predictable,
        "mispredicted": matched & ~predictable,
        "unmatched": predicted & ~matched,
    }


def _ids_of_runs(ids: Int[Tensor, "example pos"], n: int) -> Int[Tensor, "example pos"]:
    """One number for each different run of n tokens, at its last token; -1 where the example has no n tokens yet."""
    runs = _compact(ids)
    for _ in range(n - 1):
        runs = _one_longer(runs, ids)
    return runs


def _one_longer(runs: Int[Tensor, "example pos"], ids: Int[Tensor, "example pos"]) -> Int[Tensor, "example pos"]:
    """The numbers of runs that have one token more, from those of the runs before it."""
    shorter, last = torch.nn.functional.pad(runs[:, :-1], (1, 0), value=-1), _compact(ids)
    pairs = (shorter + 1) * (last.max() + 1) + last
    return torch.where(shorter >= 0, _compact(pairs), -1)


def _compact(numbers: Int[Tensor, "example pos"]) -> Int[Tensor, "example pos"]:
    """Equal numbers stay equal and different ones different, all below how many there are."""
    return numbers.unique(return_inverse=True)[1]


def _latest_same(runs: Int[Tensor, "example pos"]) -> Int[Tensor, "example pos"]:
    """The latest earlier position of the same run in the same example; -1 where there is none, or no run."""
    order = runs.argsort(dim=1, stable=True)
    ascending = runs.gather(1, order)
    is_again = (ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0)
    found = torch.full_like(runs, -1)
    return found.scatter(1, order[:, 1:], torch.where(is_again, order[:, :-1], -1))
