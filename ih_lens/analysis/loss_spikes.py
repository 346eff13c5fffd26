"""Where the loss jumps up for a while in training: outliers of its curve against a running median."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from ih_lens.analysis.loss_curves import loss_curve
from ih_lens.analysis.spread import scatter
from ih_lens.errors import InputError
from ih_lens.results import TokenLosses
from ih_lens.statistics import standard_error
from ih_lens.validate import at_least

COLUMNS = ["step", "tokens_elapsed", "height", "stderr", "scatters", "loss", "baseline", "n_snapshots", "recovered"]


def loss_spikes(
    losses: TokenLosses | xr.DataArray,
    *,
    width: int = 3,
    min_scatters: int | float = 6.0,
    min_share: int | float = 0.01,
    min_stderrs: int | float = 3.0,
) -> pd.DataFrame:
    """Snapshots whose loss lies far above the running median of those around them.

    The scatter from snapshot to snapshot is taken from the median magnitude of second differences, in which neither a
    spike nor a steady fall counts, times 1.48 / sqrt(6): the standard deviation where it is normal. A running median
    follows any curve that only falls, however steeply, so the phase change is no spike.

    Args:
        losses: stacked over snapshots, or a loss curve [snapshot] such as `loss_curve` gives.
        width: snapshots to both sides that the median is taken over; a spike must last for fewer than these.
        min_scatters: smallest height in units of the scatter.
        min_share: smallest height as a share of the range of the running median.
        min_stderrs: smallest height in standard errors, paired over examples, where single losses are known.

    Returns:
        One row per run of such snapshots, at the highest of them: `step` (its place where unknown) and
        `tokens_elapsed` (NaN where unknown), `height` above the median in nats with its `stderr` (NaN where unknown),
        `scatters`, `loss` and `baseline`, `n_snapshots`, and `recovered`, the step of the first later snapshot that
        has lost nine tenths of the height, NaN if none has. `attrs` hold the scatter and the settings.

    Raises:
        InputError: if the losses are no curve of finite numbers over at least 2 * width + 1 snapshots.

    Examples:
        >>> loss_spikes(losses)[["step", "height", "recovered"]]
           step  height  recovered
        0   420    0.31        450

    The paper's table shows a spike in its 6-layer model with MLPs, and asks what causes them.
    """
    at_least("width", width, 1)
    curve, examples = _curve(losses)
    values = curve.to_numpy().astype(np.float64)
    if values.ndim != 1 or len(values) < 2 * width + 1 or not np.isfinite(values).all():
        raise InputError(
            f"losses: expected a curve of finite losses over at least {2 * width + 1} snapshots, got "
            f"{dict(curve.sizes) or 'those of one'}; stack the snapshots, or use a smaller width"
        )
    middle = _medians(values, width)
    baseline = values[middle]
    heights = values - baseline
    noise = scatter(values)
    errors = np.full(len(values), np.nan) if examples is None else standard_error((examples - examples[middle]).T)
    is_high = (heights > 0) & (heights >= min_scatters * noise) & (heights >= min_share * np.ptp(baseline))
    is_high &= ~(heights < min_stderrs * errors)  # where it is unknown, nothing is asked of it
    steps, elapsed = _labels(curve, "step", np.arange(len(values))), _labels(curve, "tokens_elapsed", np.nan)
    rows: list[list[float]] = []
    for run in _runs(is_high):
        top = int(run[heights[run].argmax()])
        after = np.flatnonzero(values[top:] <= baseline[top] + heights[top] / 10)
        recovered = steps[top + after[0]] if len(after) else np.nan
        scatters = heights[top] / noise if noise else np.inf
        at_top = [steps[top], elapsed[top], heights[top], errors[top], scatters, values[top], baseline[top]]
        rows.append([float(number) for number in (*at_top, len(run), recovered)])
    found = pd.DataFrame(rows, columns=COLUMNS, dtype=float).astype({"n_snapshots": int})
    settings = {"min_scatters": min_scatters, "min_share": min_share, "min_stderrs": min_stderrs}
    found.attrs = {"width": width, **settings, "scatter": noise}
    return found


def running_median(curve: xr.DataArray, *, width: int = 3) -> xr.DataArray:
    """What `loss_spikes` compares with: at each snapshot the median of those up to `width` away.

    At the beginning the window shrinks evenly on both sides, because the loss falls fast there; at the end it ends
    with the run. Of an even number the upper of the two in the middle is taken, so that it is always a snapshot's.

    Args:
        curve: [snapshot].
        width: snapshots to both sides.

    Examples:
        >>> running_median(loss_curve(losses)).dims
        ('snapshot',)
    """
    values = curve.to_numpy()
    return curve.copy(data=values[_medians(values, at_least("width", width, 1))])


def _medians(values: Float[np.ndarray, "snapshot"], width: int) -> Int[np.ndarray, "snapshot"]:
    """Which snapshot holds the median around each."""
    found: list[int] = []
    for place in range(len(values)):
        first, last = place - min(width, place), min(place + min(width, place), len(values) - 1)
        order = np.argsort(values[first : last + 1], kind="stable")
        found.append(first + int(order[len(order) // 2]))
    return np.array(found, dtype=np.int64)


def _curve(
    losses: TokenLosses | xr.DataArray,
) -> tuple[xr.DataArray, Float[np.ndarray, "snapshot example"] | None]:
    """The mean losses, and those of single examples where they are known."""
    if not isinstance(losses, TokenLosses):
        return losses, None
    values = losses.random_token.astype(np.float64)
    known = values.dims == ("snapshot", "example")
    return loss_curve(losses), values.to_numpy() if known else None


def _labels(curve: xr.DataArray, name: str, otherwise: Any) -> Float[np.ndarray, "snapshot"]:
    """A coordinate of the snapshots, or something else where it is not known."""
    if name not in curve.coords:
        return np.full(curve.size, otherwise, dtype=np.float64)
    return curve[name].to_numpy().astype(np.float64)


def _runs(is_high: np.ndarray) -> list[Int[np.ndarray, "snapshot"]]:
    """Places that are true, those next to each other together."""
    places = np.flatnonzero(is_high)
    return [run for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(run)]
