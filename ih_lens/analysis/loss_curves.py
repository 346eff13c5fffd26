"""Three views of per-token losses: over training, over the context, and their change along the context."""

import numpy as np
import xarray as xr

from ih_lens.analysis.pairing import check_pair
from ih_lens.analysis.slopes import local_slopes
from ih_lens.analysis.spread import standard_error_over_examples
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
    return _mean_over_examples(values, losses, "mean random-token loss over examples")


def loss_difference(first: TokenLosses, second: TokenLosses) -> xr.DataArray:
    """Mean random-token loss of `first` minus that of `second`, paired on their examples.

    Args:
        first: losses of one model, plain or stacked over snapshots.
        second: losses of the other, of the same snapshots where both are stacked.

    Returns:
        The difference in nats over the leading dimensions, with the coordinate `stderr`: the standard error of the
        mean over examples of each example's own difference (NaN for a single one).

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: if both are stacked over different snapshots.

    Examples:
        >>> loss_difference(losses, losses_of_one_layer).dims
        ('snapshot',)

    Where it leaves zero is where a model's loss curve diverges from the other's (paper, Argument 1).
    """
    check_pair(first, second)
    each = first.random_token.astype(np.float64) - second.random_token.astype(np.float64)
    return _mean_over_examples(each, first, "difference of mean random-token losses, first minus second")


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


def loss_derivative(losses: TokenLosses | xr.DataArray, *, span: int | float = 0.0) -> xr.DataArray:
    """Derivative of the mean loss with respect to ln(context index): nats gained by e times as much context.

    At inner indices it is the second-order central difference on the unevenly spaced grid ln(i), at the first and
    the last index the one-sided difference to the neighbour (`numpy.gradient`). Where losses were kept at some
    indices only, the differences span the gaps.

    Args:
        losses: losses, or a result of `loss_by_context_index`.
        span: above 0, the slope of the least-squares line through all indices within this distance in ln(index),
            which noise moves less: neighbours at index 500 are only 0.002 apart, so that 0.01 nats of noise in the
            loss become 5 nats of noise in their difference.

    Returns:
        The derivative in nats, [..., context_index]; negative where more context lowers the loss.

    Raises:
        InputError: if there are fewer than two context indices, they do not ascend, or `span` is negative.

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
    slopes = local_slopes(means.to_numpy().astype(np.float64), np.log(indices), span)
    method = f"least squares within {span:g}" if span else "central differences"
    definition = f"derivative of the mean loss with respect to ln(context index), {method}"
    return means.copy(data=slopes).rename("loss_derivative").assign_attrs(definition=definition, unit="nats", span=span)


def _mean_over_examples(values: xr.DataArray, losses: TokenLosses, definition: str) -> xr.DataArray:
    """The mean with its standard error (NaN for a single example) and provenance."""
    mean, stderr = values.mean("example", skipna=False), standard_error_over_examples(values)
    attributes = {**losses.attrs, "definition": definition, "unit": "nats"}
    return mean.assign_coords(stderr=stderr.variable).rename("loss").assign_attrs(attributes)
