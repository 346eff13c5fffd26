"""How many examples a wanted precision needs, from what a few have shown."""

import numpy as np
import xarray as xr
from scipy import stats

from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.statistics import examples_for_half_width, examples_for_stderr, fraction


def examples_needed(
    pilot: Estimate | float,
    *,
    stderr: float | None = None,
    half_width: float | None = None,
    level: float = 0.95,
    assurance: float | None = None,
) -> xr.DataArray:
    """How many examples make the mean as precise as wanted, said before they are measured.

    Args:
        pilot: an estimate from a few examples (`scores.estimate(name)`, `ablation_effects`,
            `in_context_learning_estimate`), or the standard deviation over examples where it is known: about 4 for
            in-context learning scores on text, in nats.
        stderr: the wanted standard error; or
        half_width: how far the t interval at `level` may reach to each side.
        level: of that interval.
        assurance: a pilot's standard deviation is itself uncertain; with 0.8 the number is enough in 8 of 10 cases, if
            examples are normally distributed. None takes the pilot's as it is.

    Returns:
        Whole numbers of examples of at least two, over the dimensions of the pilot (none for a number), NaN where it
        has no spread.

    Raises:
        InputError: unless one of `stderr` and `half_width` is given, above 0, or if a number comes with `assurance`.

    Examples:
        >>> int(examples_needed(4.0, stderr=0.126))
        1008
        >>> examples_needed(score_heads(model).estimate("prefix_matching"), half_width=0.01).max()
    """
    wanted = [value for value in (stderr, half_width) if value is not None]
    if len(wanted) != 1 or not wanted[0] > 0:
        raise InputError(
            f"expected one of stderr and half_width, above 0; got stderr={stderr}, half_width={half_width}"
        )
    fraction("level", level)
    spread = _spread(pilot, assurance)
    numbers = spread.to_numpy().astype(np.float64)
    if stderr is not None:
        found = examples_for_stderr(numbers, stderr)
    else:
        found = examples_for_half_width(numbers, wanted[0], level)
    settings = {"stderr": stderr, "half_width": half_width, "level": level, "assurance": assurance}
    attributes = {name: value for name, value in settings.items() if value is not None}
    return xr.DataArray(found, spread.coords, spread.dims, "examples_needed", attributes)


def _spread(pilot: Estimate | float, assurance: float | None) -> xr.DataArray:
    """Standard deviation over examples, or a bound on it that holds with some assurance."""
    if not isinstance(pilot, Estimate):
        if assurance is not None or not pilot >= 0:
            raise InputError(f"pilot: expected a standard deviation of at least 0, without assurance; got {pilot!r}")
        return xr.DataArray(float(pilot))
    spread = pilot.stderr.astype(np.float64) * np.sqrt(pilot.n_examples)
    if assurance is None:
        return spread
    n_free = max(pilot.n_examples - 1, 1)
    return spread * np.sqrt(n_free / stats.chi2.ppf(1 - fraction("assurance", assurance), n_free))
