"""Checks before two results are subtracted from each other example by example."""

import numpy as np

from ih_lens.errors import InputError
from ih_lens.results import AblationLosses, TokenLosses, check_same_examples

_HEAD_DIMS = ("layer", "head", "group")


def check_pair(first: TokenLosses, second: TokenLosses) -> None:
    """Refuse losses of different examples, or stacks of different snapshots, heads or groups.

    Raises:
        FingerprintError: if the evaluation sets differ.
        InputError: if a leading dimension that both have differs in its labels.
    """
    check_same_examples(first, second)
    labels = {"snapshot": ("step", "tokens_elapsed"), **{dim: (dim,) for dim in _HEAD_DIMS}}
    for dim, names in labels.items():
        if dim not in first.dataset.dims or dim not in second.dataset.dims:
            continue
        for name in names:
            one, other = np.asarray(first.dataset[name]), np.asarray(second.dataset[name])
            if not np.array_equal(one, other):
                raise InputError(
                    f"the two results differ in {name}: {one.tolist()} and {other.tolist()}; "
                    f"pass results over the same {dim}s"
                )


def check_ablation(ablated: AblationLosses, unablated: TokenLosses) -> None:
    """Refuse ablations and unablated losses that are not of the same examples and snapshots.

    Raises:
        FingerprintError: if the evaluation sets differ.
        InputError: if only one is stacked over snapshots, or `unablated` has ablations of its own.
    """
    check_pair(ablated, unablated)
    expected = [dim for dim in ablated.random_token.dims[:-1] if dim not in _HEAD_DIMS]
    found = list(unablated.random_token.dims[:-1])
    if found != expected:
        raise InputError(
            f"unablated: expected the leading dimensions {expected} as the ablations have them without heads, got "
            f"{found}; pass the losses of the same snapshots without ablations"
        )
