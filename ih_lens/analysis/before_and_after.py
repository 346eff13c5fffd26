"""The before-and-after vector: what the phase change did to each example's loss, and each head's part in it."""

import numpy as np
import xarray as xr

from ih_lens.analysis.pairing import check_ablation, check_pair
from ih_lens.errors import FingerprintError, InputError
from ih_lens.results import AblationLosses, TokenLosses


def before_and_after_vector(start: TokenLosses, end: TokenLosses) -> xr.DataArray:
    """Direction in which the phase change moved the losses: random-token losses at its end minus at its start.

    Args:
        start: losses of the snapshot at the start of the phase change.
        end: losses of the snapshot at its end, on the same examples.

    Returns:
        [example], of unit length, without unit; the attribute `length` is the distance moved, in nats.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: if either is more than one snapshot's plain losses, holds NaN, or nothing changed.

    Examples:
        >>> vector = before_and_after_vector(losses[change.start_index], losses[change.end_index])
        >>> float((vector**2).sum())
        1.0

    The paper's "before-and-after vector" (Analyses, Ablation attribution to phase change).
    """
    check_pair(_plain("start", start), _plain("end", end))
    difference = end.random_token.to_numpy().astype(np.float64) - start.random_token.to_numpy().astype(np.float64)
    length = float(np.linalg.norm(difference))
    if not np.isfinite(length) or length == 0:
        raise InputError(
            f"the losses at start and end differ by {length} nats, which gives no direction; "
            "pass the losses of two snapshots between which the model changed"
        )
    attributes = {
        "definition": "random-token losses at the end minus at the start of the phase change, unit length",
        "length": length,
        "fingerprint": start.fingerprint,
    }
    return xr.DataArray(difference / length, dims="example", name="before_and_after_vector", attrs=attributes)


def attribution_to_before_and_after(
    ablated: AblationLosses, unablated: TokenLosses, vector: xr.DataArray
) -> xr.DataArray:
    """How far ablating each head moves the losses along the before-and-after vector.

    Negative for induction heads: removing them undoes what happened in the phase change.

    Args:
        ablated: losses after ablations, [layer, head] or [group], also stacked over snapshots.
        unablated: losses of the same model (and snapshots) as it is.
        vector: result of `before_and_after_vector`.

    Returns:
        (ablated minus unablated random-token losses) projected on the vector, in nats, over the leading dimensions
        of `ablated`. Heads that were not ablated are NaN.

    Raises:
        FingerprintError: if the losses or the vector belong to different examples.
        InputError: if the vector has another number of examples, or stacks are of different snapshots.

    Examples:
        >>> attribution_to_before_and_after(ablated, losses, vector).dims
        ('layer', 'head')

    The paper's first view of the ablations (Analyses, Ablation attribution to phase change).
    """
    check_ablation(ablated, unablated)
    if vector.attrs.get("fingerprint") != ablated.fingerprint:
        raise FingerprintError(
            f"the before-and-after vector belongs to the examples {vector.attrs.get('fingerprint')}, the ablations to "
            f"{ablated.fingerprint}; measure both on one EvalSet"
        )
    if vector.dims != ("example",) or vector.size != ablated.random_token.sizes["example"]:
        raise InputError(
            f"expected a vector over {ablated.random_token.sizes['example']} examples, got {dict(vector.sizes)}"
        )
    change = ablated.random_token.astype(np.float64) - unablated.random_token.astype(np.float64)
    projection = xr.dot(change, vector, dim="example").transpose(*ablated.random_token.dims[:-1])
    attributes = {**ablated.attrs, "definition": "ablated minus unablated losses, along the before-and-after vector"}
    return projection.rename("attribution_to_before_and_after").assign_attrs(attributes)


def _plain(name: str, losses: TokenLosses) -> TokenLosses:
    """Losses without leading dimensions."""
    dims = losses.random_token.dims
    if dims != ("example",):
        raise InputError(
            f"{name}: expected the losses of one snapshot without ablations, got dimensions {dims}; "
            "choose one snapshot from the stack first"
        )
    return losses
