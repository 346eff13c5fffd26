"""How fast the loss falls with the logarithm of the tokens elapsed, and which models' falls fastest."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from jaxtyping import Float

from ih_lens.analysis.loss_curves import loss_curve
from ih_lens.analysis.slopes import local_slopes
from ih_lens.errors import InputError
from ih_lens.results import TokenLosses


def loss_token_derivative(losses: TokenLosses | xr.DataArray, *, span: int | float = 0.0) -> xr.DataArray:
    """Derivative of the mean loss with respect to ln(tokens elapsed): nats gained by e times as much training.

    At inner snapshots it is the second-order central difference on the unevenly spaced grid of ln(tokens), at the
    first and the last the one-sided difference to the neighbour. The snapshot at 0 tokens is left out.

    Args:
        losses: losses stacked over snapshots, or a result of `loss_curve` or `loss_by_context_index`.
        span: above 0, the slope of the least-squares line through all snapshots within this distance in ln(tokens)
            (0.2 is about 20 % more or fewer tokens), which noise moves less; neighbours are always included.

    Returns:
        The derivative in nats, [..., snapshot]; negative while the loss falls.

    Raises:
        InputError: if there are fewer than two trained snapshots, their tokens do not ascend, or `span` is negative.

    Examples:
        >>> loss_token_derivative(losses, span=0.2).dims
        ('snapshot',)

    The paper's "derivative of loss with respect to the log of elapsed tokens" (Unexplained Curiosities).
    """
    curve = loss_curve(losses) if isinstance(losses, TokenLosses) else losses
    if "snapshot" not in curve.dims or "tokens_elapsed" not in curve.coords:
        raise InputError(
            f"expected losses over training with tokens_elapsed for each snapshot, got dimensions {curve.dims}; "
            "join the snapshots' results with stack_snapshots first"
        )
    trained = curve.isel(snapshot=np.flatnonzero(curve["tokens_elapsed"].to_numpy() > 0)).transpose(..., "snapshot")
    logarithms = np.log(trained["tokens_elapsed"].to_numpy().astype(np.float64))
    slopes = local_slopes(trained.to_numpy().astype(np.float64), logarithms, span)
    method = f"least squares within {span:g}" if span else "central differences"
    definition = f"derivative of the mean loss with respect to ln(tokens elapsed), {method}"
    labelled = trained.copy(data=slopes).drop_vars("stderr", errors="ignore").rename("loss_token_derivative")
    return labelled.assign_attrs(definition=definition, unit="nats", span=span)


@dataclass(frozen=True)
class DerivativeOrder:
    """The result of `loss_derivative_order`.

    Attributes:
        order: [snapshot], from -1 to 1: of all pairs of models of different size, the share in which the larger
            model's loss falls faster, less the share in which the smaller one's does.
        inversions: tokens elapsed where the order changes its sign, in order.
    """

    order: xr.DataArray
    inversions: tuple[float, ...]


def loss_derivative_order(
    derivatives: Mapping[str, xr.DataArray], sizes: Mapping[str, int | float], *, threshold: int | float = 0.5
) -> DerivativeOrder:
    """Whether larger or smaller models' losses fall faster at each snapshot, and where that inverts.

    The paper observes that before the phase change the loss falls more slowly for small models, and after it for
    large ones. Its order is here the rank correlation (Kendall's, over pairs of different size) of the models' sizes
    with how fast their losses fall: 1 where every larger model's falls faster, -1 where every smaller model's does.
    An inversion counts where the order goes from `threshold` or above to -`threshold` or below, or back, whatever it
    does between; its place is the last zero crossing, interpolated in ln(tokens). Ranks do not know what is noise:
    where all slopes are alike, their order means nothing, and derivatives need a `span` that is wide enough.

    Args:
        derivatives: result of `loss_token_derivative` [snapshot] per model, at least two of different size.
        sizes: number of parameters, or of layers, per model; only their ranks matter.
        threshold: above 0 and up to 1.

    Returns:
        A `DerivativeOrder` over the snapshots, by tokens elapsed, that all models have.

    Raises:
        InputError: if a size is missing, all are equal, the models share no snapshot, or a number is not finite.

    Examples:
        >>> loss_derivative_order(derivatives, {"1L": 1e6, "2L": 2e6, "4L": 8e6}).inversions
        (3.1e9,)
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected a number above 0 and up to 1, got {threshold}")
    if missing := [name for name in derivatives if name not in sizes]:
        raise InputError(f"sizes of {', '.join(missing)} are missing; give one per model")
    tokens, slopes = shared_snapshots(derivatives)
    order = _order(slopes, np.array([float(sizes[name]) for name in derivatives]))
    definition = "rank correlation of model size with the rate at which the loss falls in ln(tokens elapsed)"
    labelled = xr.DataArray(
        order,
        dims="snapshot",
        coords={"tokens_elapsed": ("snapshot", tokens)},
        name="loss_derivative_order",
        attrs={"definition": definition, "unit": "none", "threshold": threshold},
    )
    return DerivativeOrder(labelled, _inversions(np.log(tokens), order, threshold))


def shared_snapshots(
    curves: Mapping[str, xr.DataArray],
) -> tuple[Float[np.ndarray, "snapshot"], Float[np.ndarray, "model snapshot"]]:
    """The tokens elapsed that all curves [snapshot] have, and the curves there.

    Raises:
        InputError: if there are none, or a curve is not [snapshot].
    """
    for name, curve in curves.items():
        if curve.dims != ("snapshot",) or "tokens_elapsed" not in curve.coords:
            raise InputError(f"{name}: expected one number per snapshot with tokens_elapsed, got {curve.dims}")
    at = [
        dict(zip(curve["tokens_elapsed"].to_numpy().tolist(), curve.to_numpy(), strict=True))
        for curve in curves.values()
    ]
    tokens = sorted(set.intersection(*map(set, at))) if at else []
    if not tokens:
        raise InputError("the models share no snapshot with the same tokens_elapsed; measure them at the same ones")
    return np.array(tokens, dtype=np.float64), np.array([[float(curve[count]) for count in tokens] for curve in at])


def _order(
    slopes: Float[np.ndarray, "model snapshot"], sizes: Float[np.ndarray, "model"]
) -> Float[np.ndarray, "snapshot"]:
    """Kendall's rank correlation of sizes and falling, over pairs of different size."""
    if not np.isfinite(slopes).all() or not np.isfinite(sizes).all():
        raise InputError("expected finite derivatives and sizes; leave such snapshots out")
    first, second = np.triu_indices(len(sizes), 1)
    larger = np.sign(sizes[second] - sizes[first])
    if not larger.any():
        raise InputError("expected at least two models of different size; an order needs them")
    faster = np.sign(slopes[first] - slopes[second])  # slopes are negative where losses fall
    return (larger[:, None] * faster).sum(axis=0) / np.abs(larger).sum()


def _inversions(
    logarithms: Float[np.ndarray, "snapshot"], order: Float[np.ndarray, "snapshot"], threshold: int | float
) -> tuple[float, ...]:
    """Tokens at which the order passes from one clear sign to the other."""
    clear = np.flatnonzero(np.abs(order) >= threshold)
    found: list[float] = []
    for before, after in pairwise(clear):
        if order[before] * order[after] < 0:
            last = before + int(np.flatnonzero(order[before:after] * order[before] > 0)[-1])
            share = order[last] / (order[last] - order[last + 1])
            found.append(float(np.exp(logarithms[last] + share * (logarithms[last + 1] - logarithms[last]))))
    return tuple(found)
