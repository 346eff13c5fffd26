"""Where in training the in-context learning score falls, if it falls abruptly at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Shaped
from torch import Tensor

from ih_lens.analysis.spread import scatter
from ih_lens.errors import InputError
from ih_lens.validate import one_of

Numbers: TypeAlias = Sequence[int | float] | np.ndarray | Tensor | pd.Series | xr.DataArray
"""One number per snapshot."""

MIN_SNAPSHOTS = 5
"""Below this a running median of three and central differences leave nothing to compare."""


@dataclass(frozen=True)
class PhaseChange:
    """The answer of `phase_change`; true in a condition when one was found.

    Attributes:
        found: whether there is a phase change.
        start: step (or whatever `steps` counts) of its first snapshot; None if not found.
        end: step of its last snapshot; None if not found.
        share: fall of the score inside the steepest window, divided by the magnitude of the final score; NaN where
            there is no such window. It is given whether or not the window counts as a phase change.
        start_index: index of the first snapshot among those given; None if not found.
        end_index: index of the last snapshot; None if not found.
        reason: one sentence on why it was found or not.
    """

    found: bool
    start: int | float | None
    end: int | float | None
    share: float
    start_index: int | None
    end_index: int | None
    reason: str

    def __bool__(self) -> bool:
        return self.found


def phase_change(
    steps: Numbers,
    scores: Numbers,
    *,
    stderr: float | Numbers | None = None,
    fraction: float = 0.25,
    min_share: float = 0.5,
    min_stderrs: float = 3.0,
    per: str = "snapshot",
) -> PhaseChange:
    """Find the contiguous run of snapshots around the steepest fall of the in-context learning score.

    The scores are smoothed by a running median of three (the two ends stay) and differentiated by central
    differences (one-sided at the ends). The window is the run of snapshots around the steepest fall in which the
    slope is at least `fraction` of the steepest. It counts as a phase change if the smoothed score falls inside it
    by at least `min_stderrs` standard errors and by at least `min_share` of the final score's magnitude.

    Args:
        steps: ascending steps, or tokens elapsed, one per snapshot.
        scores: in-context learning score per snapshot, in nats; negative when the model learns in context.
        stderr: standard error of the scores, one for all or one per snapshot; the larger of the two at the window's
            ends is used. By default the scores' coordinate `stderr`. Where neither is known, the scatter of the
            scores from snapshot to snapshot stands for it (median magnitude of their second differences).
        fraction: share of the steepest slope, above 0 and up to 1.
        min_share: smallest fall that counts, as a share of the final score's magnitude.
        min_stderrs: smallest fall that counts, in standard errors.
        per: "snapshot" takes slopes per snapshot, so that a run with exponentially spaced snapshots is judged as it
            is drawn, on a logarithmic axis; "step" takes them per step. Evenly spaced snapshots give the same.

    Returns:
        A `PhaseChange`; "none" is an answer, also for fewer than five snapshots.

    Raises:
        InputError: if lengths differ, scores are not finite, steps do not ascend, or a parameter is out of range.

    Examples:
        >>> change = phase_change(score.step, score)
        >>> change.found, change.start, change.end
        (True, 350, 500)

    The paper's "phase change" is a visible drop of the score; it gives no rule (see docs/definitions).
    """
    one_of("per", per, ("snapshot", "step"))
    if not 0 < fraction <= 1:
        raise InputError(f"fraction: expected a share above 0 and up to 1, got {fraction}")
    times, values = _checked(steps, scores)
    errors = _standard_errors(scores, stderr, values)
    if len(values) < MIN_SNAPSHOTS:
        return _none(f"{len(values)} snapshots are too few: at least {MIN_SNAPSHOTS} are needed")
    smooth = _median_of_three(values)
    slopes = np.gradient(smooth, times.astype(np.float64)) if per == "step" else np.gradient(smooth)
    if slopes.min() >= 0:
        return _none("the score never falls")
    first, last = _window(slopes, fraction)
    fall, final = float(smooth[first] - smooth[last]), float(values[-1])
    share = fall / abs(final) if final else float("inf")
    error = float(max(errors[first], errors[last]))
    span = f"the steepest fall, {fall:.3g} nats between {times[first]} and {times[last]},"
    if final >= 0:
        return _none(f"the final score of {final:.3g} nats shows no in-context learning", share)
    if fall < min_stderrs * error:
        return _none(f"{span} is under {min_stderrs:g} standard errors of {error:.3g} nats", share)
    if share < min_share:
        return _none(f"{span} is {share:.0%} of the final score's magnitude, under {min_share:.0%}", share)
    reason = f"{span} is {share:.0%} of the final score's magnitude"
    return PhaseChange(True, times[first].item(), times[last].item(), share, first, last, reason)


def _none(reason: str, share: float = float("nan")) -> PhaseChange:
    return PhaseChange(False, None, None, share, None, None, reason)


def _checked(steps: Numbers, scores: Numbers) -> tuple[Shaped[np.ndarray, "snapshot"], Float[np.ndarray, "snapshot"]]:
    """Steps and scores as vectors that fit each other."""
    times, values = np.asarray(steps), np.asarray(scores, dtype=np.float64)
    if times.ndim != 1 or times.shape != values.shape:
        raise InputError(
            f"expected one score per step, got steps of shape {times.shape} and scores of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InputError(f"scores: expected finite numbers, got {values.tolist()}; leave such snapshots out")
    if not np.isfinite(times.astype(np.float64)).all() or (np.diff(times) <= 0).any():
        raise InputError(f"steps: expected finite ascending numbers, got {times.tolist()}; sort the snapshots")
    return times, values


def _standard_errors(
    scores: Numbers, stderr: float | Numbers | None, values: Float[np.ndarray, "snapshot"]
) -> Float[np.ndarray, "snapshot"]:
    """One standard error per snapshot: given, or the scores' own, or from their scatter where both are unknown."""
    if stderr is None and isinstance(scores, xr.DataArray) and "stderr" in scores.coords:
        stderr = scores["stderr"]
    errors = np.full_like(values, np.nan) if stderr is None else np.asarray(stderr, dtype=np.float64)
    if errors.shape not in ((), values.shape):
        raise InputError(f"stderr: expected one number or one per snapshot ({values.shape}), got shape {errors.shape}")
    if (errors < 0).any():
        raise InputError(f"stderr: expected standard errors of at least 0, got {errors.tolist()}")
    errors = np.broadcast_to(errors, values.shape)
    return np.where(np.isnan(errors), scatter(values) if len(values) >= MIN_SNAPSHOTS else 0.0, errors)


def _median_of_three(values: Float[np.ndarray, "snapshot"]) -> Float[np.ndarray, "snapshot"]:
    """Running median, which removes single outliers and keeps steps; the ends stay."""
    smooth = values.copy()
    smooth[1:-1] = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return smooth


def _window(slopes: Float[np.ndarray, "snapshot"], fraction: float) -> tuple[int, int]:
    """First and last index of the run around the steepest fall."""
    steepest = int(slopes.argmin())
    shallow = np.flatnonzero(slopes > fraction * slopes[steepest])
    before, after = shallow[shallow < steepest], shallow[shallow > steepest]
    first = int(before[-1]) + 1 if len(before) else 0
    last = int(after[0]) - 1 if len(after) else len(slopes) - 1
    return first, last
