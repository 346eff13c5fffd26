"""Spread over examples: standard errors, intervals, p-values, corrections for many; on plain arrays, many at a time.

Everything here is about means over examples, which is what every score, loss and difference of this library is.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import stats

from ih_lens.errors import InputError
from ih_lens.validate import at_least, one_of

METHODS = ("t", "bootstrap", "bca", "percentile")
ALTERNATIVES = ("two-sided", "greater", "less")
CORRECTIONS = ("benjamini_hochberg", "holm", "none")
MIN_BOOTSTRAP_EXAMPLES = 5
_NUMBERS_AT_ONCE = 2**22
"""What a block of resamples may hold: 32 MiB in float64."""
_MAX_ENUMERATED = 12
"""Up to so many examples all choices of signs are gone through, 4096 of them."""

Array = Float[np.ndarray, "..."]


def fraction(name: str, value: float) -> float:
    """A number between 0 and 1, both excluded."""
    if isinstance(value, bool) or not 0 < value < 1:
        raise InputError(f"{name}: expected a number between 0 and 1, such as 0.95; got {value!r}")
    return float(value)


def standard_error(examples: Float[np.ndarray, "example *heads"]) -> Float[np.ndarray, "*heads"]:
    """Of the mean over examples; NaN for fewer than two."""
    if len(examples) < 2:
        return np.full(examples.shape[1:], np.nan)
    return np.asarray(examples.std(axis=0, ddof=1) / np.sqrt(len(examples)))


def t_interval(
    mean: Float[np.ndarray, "*heads"], stderr: Float[np.ndarray, "*heads"], n_examples: int, level: float
) -> Float[np.ndarray, "bound *heads"]:
    """Student's interval: exact where examples are normally distributed."""
    if n_examples < 2:
        return np.full((2, *mean.shape), np.nan)
    half = stats.t.ppf((1 + level) / 2, n_examples - 1) * stderr
    return np.stack([mean - half, mean + half])


def bootstrap_interval(
    examples: Float[np.ndarray, "example *heads"], *, level: float, method: str, n_resamples: int, seed: int
) -> Float[np.ndarray, "bound *heads"]:
    """Interval of the mean by drawing examples with replacement.

    For means this is scipy.stats.bootstrap in closed form: a resample is a vector of counts, so that all means are one
    matrix product, where SciPy copies the examples for each (ten thousand examples of 144 heads: seconds, not hours).

    Args:
        examples: numbers to average; their order does not matter.
        level: share of samples in which the interval should hold the mean.
        method: "bootstrap" (studentised: the spread of (mean - true mean) / standard error is resampled), "bca" (bias
            corrected and accelerated, Efron 1987), or "percentile".
        n_resamples: how many.
        seed: of the resamples.

    Raises:
        InputError: for fewer than five examples, whose resamples are too few to tell anything.
    """
    n_examples = len(examples)
    if n_examples < MIN_BOOTSTRAP_EXAMPLES:
        raise InputError(
            f"method={method!r} draws from the examples, and {n_examples} are too few; take at least "
            f"{MIN_BOOTSTRAP_EXAMPLES}, or method='t'"
        )
    at_least("n_resamples", n_resamples, 100)
    columns = np.sort(examples.reshape(n_examples, -1).astype(np.float64), axis=0)  # no order, no difference
    n_at_once = max(1, _NUMBERS_AT_ONCE // n_resamples)
    parts = [
        _interval(columns[:, start : start + n_at_once], level, method, n_resamples, seed)
        for start in range(0, columns.shape[1], n_at_once)
    ]
    return np.concatenate(parts, axis=1).reshape(2, *examples.shape[1:])


def _interval(
    columns: Float[np.ndarray, "example column"], level: float, method: str, n_resamples: int, seed: int
) -> Float[np.ndarray, "bound column"]:
    """The interval of each column by one of the methods."""
    mean, tails = columns.mean(axis=0), np.array([(1 - level) / 2, (1 + level) / 2])
    deviations = columns - mean
    studentised = method == "bootstrap"
    resampled = np.sort(np.concatenate(list(_resamples(deviations, n_resamples, seed, studentised))), axis=0)
    if studentised:
        scaled = _at_levels(resampled, np.broadcast_to(tails[:, None], (2, len(mean)))) * standard_error(columns)
        return mean - np.where(deviations.any(axis=0), scaled, 0.0)[::-1]
    levels = _bca_levels(deviations, resampled, tails) if method == "bca" else np.tile(tails[:, None], len(mean))
    return mean + _at_levels(resampled, levels)


def _resamples(
    deviations: Float[np.ndarray, "example column"], n_resamples: int, seed: int, studentised: bool
) -> Iterator[Float[np.ndarray, "resample column"]]:
    """Means of resampled deviations, in blocks; divided by their own standard errors where that is asked for."""
    n_examples, generator = len(deviations), np.random.default_rng(seed)
    n_at_once = max(1, _NUMBERS_AT_ONCE // n_examples)
    for start in range(0, n_resamples, n_at_once):
        n_now = min(n_at_once, n_resamples - start)
        drawn = generator.integers(n_examples, size=(n_now, n_examples)) + n_examples * np.arange(n_now)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n_now * n_examples).reshape(n_now, n_examples).astype(np.float64)
        means = counts @ deviations / n_examples
        if studentised:
            variance = np.maximum(counts @ deviations**2 / n_examples - means**2, 0.0) / (n_examples - 1)
            variance[variance < 1e-12 * means**2] = 0.0  # what rounding leaves where all that was drawn is equal
            with np.errstate(divide="ignore", invalid="ignore"):
                means = np.where(means == 0, 0.0, means / np.sqrt(variance))
        yield means


def _bca_levels(
    deviations: Float[np.ndarray, "example column"],
    resampled: Float[np.ndarray, "resample column"],
    tails: Float[np.ndarray, "bound"],
) -> Float[np.ndarray, "bound column"]:
    """Which quantiles to take: corrected for bias and for a spread that changes with the mean."""
    below = ((resampled < 0).mean(axis=0) + (resampled <= 0).mean(axis=0)) / 2
    bias = stats.norm.ppf(below)
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((deviations**3).sum(axis=0) / (6 * (deviations**2).sum(axis=0) ** 1.5))
        shifted = bias + stats.norm.ppf(tails)[:, None]
        levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    return np.where(deviations.any(axis=0), levels, 0.5)


def _at_levels(
    ascending: Float[np.ndarray, "resample column"], levels: Float[np.ndarray, "bound column"]
) -> Float[np.ndarray, "bound column"]:
    """The nearest of the resamples to each quantile; NaN where the columns are."""
    places = np.rint(np.nan_to_num(levels) * (len(ascending) - 1)).astype(np.int64)
    return np.take_along_axis(ascending, places, axis=0)


def t_p_value(mean: Array, stderr: Array, n_examples: int, null: float, alternative: str) -> Array:
    """Student's test of the mean against a number; without any spread 0 or 1."""
    if n_examples < 2:
        return np.full(mean.shape, np.nan)
    difference = mean - null
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(difference == 0, 0.0, difference / stderr)
    statistic = np.where(np.isnan(mean), np.nan, statistic)
    greater, less = stats.t.sf(statistic, n_examples - 1), stats.t.cdf(statistic, n_examples - 1)
    return _choose(np.asarray(greater), np.asarray(less), alternative)


def sign_flip_p_value(
    examples: Float[np.ndarray, "example *heads"], null: float, alternative: str, *, n_resamples: int, seed: int
) -> Float[np.ndarray, "*heads"]:
    """Test by turning the signs of examples' differences from a number: exact where these are symmetric.

    All choices of signs are gone through for up to 12 examples; then random ones, the observed one counted with them.
    """
    n_examples = len(examples)
    deviations = np.sort(examples.reshape(n_examples, -1).astype(np.float64), axis=0) - null
    observed = deviations.sum(axis=0)
    tolerance = 1e-9 * np.abs(deviations).sum(axis=0)  # equal sums, added up in another order
    n_greater, n_less, n_choices = np.zeros_like(observed), np.zeros_like(observed), 0
    for signs in _sign_choices(n_examples, n_resamples, seed, deviations.shape[1]):
        flipped = signs @ deviations
        n_greater += (flipped >= observed - tolerance).sum(axis=0)
        n_less += (flipped <= observed + tolerance).sum(axis=0)
        n_choices += len(signs)
    found = _choose(n_greater / n_choices, n_less / n_choices, alternative)
    return np.where(np.isnan(observed), np.nan, found).reshape(examples.shape[1:])


def _sign_choices(
    n_examples: int, n_resamples: int, seed: int, n_columns: int
) -> Iterator[Float[np.ndarray, "choice example"]]:
    """Signs of the examples: all there are, or the observed ones and random ones, in blocks."""
    if n_examples <= _MAX_ENUMERATED:
        bits = np.arange(2**n_examples)[:, None] >> np.arange(n_examples) & 1
        yield 1.0 - 2.0 * bits
        return
    yield np.ones((1, n_examples))
    generator, n_at_once = np.random.default_rng(seed), max(1, _NUMBERS_AT_ONCE // max(n_examples, n_columns))
    for start in range(0, n_resamples, n_at_once):
        n_now = min(n_at_once, n_resamples - start)
        yield 1.0 - 2.0 * generator.integers(2, size=(n_now, n_examples))


def p_value_among(
    observed: Float[np.ndarray, "shared own"], null: Float[np.ndarray, "draw shared"], alternative: str
) -> Float[np.ndarray, "shared own"]:
    """(1 + how many draws are as extreme) / (1 + draws): the share of the null that reaches each observed number.

    Two-sided it is twice the smaller share of the two sides, at most 1. Draws that are NaN are left out; where
    nothing else is left, or the observed number is NaN, so is the result.
    """
    found = np.full(observed.shape, np.nan)
    for place, values in enumerate(observed):
        draws = np.sort(null[:, place][~np.isnan(null[:, place])])
        if len(draws):
            n_greater = len(draws) - np.searchsorted(draws, values, side="left")
            n_less = np.searchsorted(draws, values, side="right")
            p_values = _choose((1 + n_greater) / (1 + len(draws)), (1 + n_less) / (1 + len(draws)), alternative)
            found[place] = np.where(np.isnan(values), np.nan, p_values)
    return found


def _choose(greater: Array, less: Array, alternative: str) -> Array:
    """The p-value of the alternative from those of both sides."""
    sides = {"greater": greater, "less": less, "two-sided": np.minimum(1.0, 2 * np.minimum(greater, less))}
    return np.asarray(sides[one_of("alternative", alternative, ALTERNATIVES)])


def corrected(p_values: Array, correction: str) -> Array:
    """P-values adjusted for how many there are; NaN is no test and stays NaN.

    Args:
        p_values: of any shape.
        correction: "benjamini_hochberg" bounds the expected share of false findings among all, "holm" the
            probability of a single one; "none" leaves them.
    """
    one_of("correction", correction, CORRECTIONS)
    tested = ~np.isnan(p_values)
    adjusted, found = p_values.astype(np.float64), p_values[tested]
    if len(found) == 0 or correction == "none":
        return adjusted
    adjusted[tested] = stats.false_discovery_control(found) if correction == "benjamini_hochberg" else _holm(found)
    return adjusted


def _holm(p_values: Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """Holm 1979: the smallest times n, the next times n - 1, ..., never smaller than one before it."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def examples_for_stderr(spread: Array, stderr: float) -> Array:
    """The smallest number of examples whose mean has at most this standard error; at least two."""
    return np.asarray(np.maximum(2.0, np.ceil((spread / stderr) ** 2 * (1 - 1e-12))))


def examples_for_half_width(spread: Array, half_width: float, level: float) -> Array:
    """The smallest number of examples whose t interval reaches at most this far to both sides; at least two."""
    found = [_examples_for(float(value), half_width, level) for value in spread.ravel()]
    return np.array(found, dtype=np.float64).reshape(spread.shape)


def _examples_for(spread: float, half_width: float, level: float) -> float:
    """By halving what lies between the normal distribution's number, never too large, and one that is enough."""
    if np.isnan(spread):
        return float("nan")

    def is_enough(n_examples: int) -> bool:
        return bool(stats.t.ppf((1 + level) / 2, n_examples - 1) * spread <= half_width * n_examples**0.5 * (1 + 1e-12))

    too_few = max(1, math.ceil((stats.norm.ppf((1 + level) / 2) * spread / half_width) ** 2 * (1 - 1e-12)) - 1)
    enough = 2 * too_few
    while not is_enough(enough):
        enough *= 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return float(enough)
