"""How the loss of single tokens changes over training, as the paper shows over a text (Analyses, Per-token losses)."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.results import TokenLosses, check_same_examples


def token_loss_differences(
    before: TokenLosses, after: TokenLosses | None = None, *, snapshots: tuple[int, int] = (0, -1)
) -> xr.DataArray:
    """Loss of every token after minus before, such as at the end and at the beginning of the phase change.

    Args:
        before: losses of one snapshot, measured with `keep="all"`; or, without `after`, of several that were joined
            by `stack_snapshots`.
        after: losses of the other snapshot, or of another model, on the same examples.
        snapshots: the places, in the stack, of the one before and the one after.

    Returns:
        [example, context_index] in nats, negative where the token is predicted better after; the coordinates
        `loss_before` and `loss_after` hold the two losses. There is none for the token at index 0, which nothing
        predicts.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: if not every loss was kept, or the losses are not those of two snapshots.

    Examples:
        >>> differences = token_loss_differences(losses, snapshots=(0, -1))
        >>> change = differences.sel(example=0, context_index=8).item()  # -2.7: predicted better by 2.7 nats
    """
    if after is None:
        pair = [_of_stack(before, place) for place in snapshots]
    else:
        check_same_examples(before, after)
        pair = [_plain(losses.full) for losses in (before, after)]
    first, second = (losses.astype(np.float64) for losses in pair)
    both = {"loss_before": first.variable, "loss_after": second.variable}
    attributes = {
        "definition": "loss after minus loss before, of each token",
        "unit": "nats",
        "fingerprint": before.fingerprint,
    }
    values = (second.variable - first.variable).to_numpy()
    indices = {"example": np.arange(len(values)), "context_index": first["context_index"].to_numpy()}
    return xr.DataArray(values, {**indices, **both}, ("example", "context_index"), "token_loss_difference", attributes)


def chosen_token_losses(losses: TokenLosses, chosen: Sequence[tuple[int, int]]) -> xr.DataArray:
    """Loss of a few tokens over training.

    Args:
        losses: of several snapshots joined by `stack_snapshots`, measured with `keep="all"`.
        chosen: the tokens, each as (example, context index).

    Returns:
        [snapshot, token] in nats; `example` and `context_index` label the tokens.

    Raises:
        InputError: if there is no such token, or the losses are not over snapshots.

    Examples:
        >>> chosen_token_losses(losses, [(0, 8), (1, 3)]).dims
        ('snapshot', 'token')
    """
    full = _stack(losses)
    examples, indices = full.sizes["example"], full["context_index"].to_numpy().tolist()
    if not chosen:
        raise InputError("chosen: expected at least one token as (example, context index), got none")
    for example, index in chosen:
        if not 0 <= example < examples or index not in indices:
            raise InputError(
                f"chosen: there is no loss of the token {(example, index)}; examples go from 0 to {examples - 1}, "
                f"context indices from {min(indices)} to {max(indices)} (nothing predicts the token at 0)"
            )
    pairs = np.array(chosen)
    places = [indices.index(index) for _, index in chosen]
    values = full.to_numpy()[:, pairs[:, 0], places].astype(np.float64)
    labels = {
        **{name: ("snapshot", full[name].to_numpy()) for name in ("step", "tokens_elapsed")},
        "example": ("token", pairs[:, 0]),
        "context_index": ("token", pairs[:, 1]),
    }
    attributes = {"definition": "loss of single tokens", "unit": "nats", "fingerprint": losses.fingerprint}
    return xr.DataArray(values, labels, ("snapshot", "token"), "token_loss", attributes)


def _of_stack(losses: TokenLosses, place: int) -> xr.DataArray:
    full = _stack(losses)
    n_snapshots = full.sizes["snapshot"]
    if not -n_snapshots <= place < n_snapshots:
        raise InputError(f"snapshots: there is no place {place} among {n_snapshots} snapshots; they count from 0")
    return full.isel(snapshot=place)


def _stack(losses: TokenLosses) -> xr.DataArray:
    full = losses.full
    if full.dims != ("snapshot", "example", "context_index"):
        raise InputError(
            f"expected losses over snapshots [snapshot, example, context_index], got dimensions {full.dims}; join the "
            "losses of snapshots with stack_snapshots"
        )
    return full


def _plain(full: xr.DataArray) -> xr.DataArray:
    if full.dims != ("example", "context_index"):
        raise InputError(
            f"expected losses of one snapshot [example, context_index], got dimensions {full.dims}; pass a stack "
            "alone, and say which two of it with snapshots="
        )
    return full
