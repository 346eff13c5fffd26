"""Three views of per-token losses: over training, over the context, and their change along the context."""

import numpy as np
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.results import TokenLosses


def loss_curve(losses: TokenLosses) -> xr.DataArray:
    """Mean over examples of the loss at each example's random context index.

    Args:
        losses: any losses; stacked over snapshots they give the loss curve over training.

    Returns:
        The mean in nats over the leading dimensions, with the coordinate `stderr`, its standard error over
        examples (NaN for a single one).

    Examples:
        >>> loss_curve(losses).dims
        ('snapshot',)

    The paper's "loss curve" (Analyses, Per-token losses).
    """
    values = losses.random_token.astype(np.float64)
    n_examples = values.sizes["example"]
    mean = values.mean("example", skipna=False)
    stderr = xr.full_like(mean, np.nan)
    if n_examples > 1:
        stderr = values.std("example", ddof=1, skipna=False) / np.sqrt(n_examples)
    attributes = {**losses.attrs, "definition": "mean random-token loss over examples", "unit": "nats"}
    return mean.assign_coords(stderr=stderr.variable).rename("loss").assign_attrs(attributes)


def loss_by_context_index(losses: TokenLosses) -> xr.DataArray:
    """Mean loss over examples at each context index, in nats: [..., context_index].

    Args:
        losses: any losses.

    Returns:
        `losses.by_context_index` with provenance; the coordinate `context_index` labels the predicted token,
        zero-based in what the model sees.

    Examples:
        >>> float(loss_by_context_index(losses).sel(context_index=50))
        4.2

    The paper's "2D in-context learning plot" (Analyses, Per-token losses).
    """
    attributes = {**losses.attrs, "definition": "mean loss over examples per context index", "unit": "nats"}
    return losses.by_context_index.rename("loss_by_context_index").assign_attrs(attributes)


def loss_derivative(losses: TokenLosses | xr.DataArray) -> xr.DataArray:
    """Derivative of the mean loss with respect to ln(context index): nats gained by e times as much context.

    At inner indices it is the second-order central difference on the unevenly spaced grid ln(i), at the first and
    the last index the one-sided difference to the neighbour (`numpy.gradient`). Where losses were kept at some
    indices only, the differences span the gaps.

    Args:
        losses: losses, or a result of `loss_by_context_index`.

    Returns:
        The derivative in nats, [..., context_index]; negative where more context lowers the loss.

    Raises:
        InputError: if there are fewer than two context indices, or they do not ascend.

    Examples:
        >>> loss_derivative(losses).dims
        ('snapshot', 'context_index')

    The paper's "2D loss derivative plot" (Analyses, Per-token losses).
    """
    means = loss_by_context_index(losses) if isinstance(losses, TokenLosses) else losses
    if "context_index" not in means.dims:
        raise InputError(f"expected losses by context index, got dimensions {means.dims}; use loss_by_context_index")
    means = means.transpose(..., "context_index")
    indices = means["context_index"].to_numpy()
    if len(indices) < 2 or (np.diff(indices) <= 0).any():
        raise InputError(
            f"expected at least two ascending context indices, got {indices.tolist()}; "
            'measure with context_indices="all" or in ascending order'
        )
    slopes = np.gradient(means.to_numpy().astype(np.float64), np.log(indices), axis=-1)
    definition = "derivative of the mean loss with respect to ln(context index), central differences"
    return means.copy(data=slopes).rename("loss_derivative").assign_attrs(definition=definition, unit="nats")
