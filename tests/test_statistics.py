"""Intervals hold what they promise, p-values are uniform where nothing is to be found, and slow twins agree."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

import ih_lens as ih
from ih_lens import statistics

N_REPEATS = 2000
DRAWS: dict[str, tuple[Callable[..., np.ndarray], float]] = {
    "normal": (lambda generator, shape: generator.normal(2, 3, shape), 2.0),
    "skewed": (lambda generator, shape: generator.exponential(1, shape), 1.0),
    "near its bound": (lambda generator, shape: generator.beta(20, 1, shape), 20 / 21),
}


def _interval(examples: np.ndarray, method: str, level: float = 0.95, n_resamples: int = 2000) -> np.ndarray:
    if method == "t":
        mean = examples.mean(axis=0)
        return statistics.t_interval(mean, statistics.standard_error(examples), len(examples), level)
    return statistics.bootstrap_interval(examples, level=level, method=method, n_resamples=n_resamples, seed=3)


def _coverage(kind: str, n_examples: int, method: str, level: float = 0.95) -> float:
    draw, truth = DRAWS[kind]
    low, high = _interval(draw(np.random.default_rng(0), (n_examples, N_REPEATS)), method, level)
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize(
    ("kind", "n_examples", "method", "level"),
    [
        ("normal", 10, "t", 0.95),
        ("normal", 10, "t", 0.8),
        ("normal", 10, "bootstrap", 0.95),
        ("normal", 10, "bootstrap", 0.8),
        ("skewed", 10, "bootstrap", 0.95),
        ("near its bound", 10, "bootstrap", 0.95),
        ("skewed", 100, "bootstrap", 0.9),
        ("skewed", 300, "bca", 0.95),
        ("normal", 100, "percentile", 0.95),
        ("skewed", 300, "t", 0.95),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str, n_examples: int, method: str, level: float) -> None:
    # four standard errors of 2000 repetitions, and 0.01 for the resamples that all of them share
    tolerance = 4 * (level * (1 - level) / N_REPEATS) ** 0.5 + (0.0 if method == "t" else 0.01)
    assert abs(_coverage(kind, n_examples, method, level) - level) < tolerance


def test_simple_bootstraps_of_few_examples_hold_less_than_they_say() -> None:
    """Which is why they are not the default."""
    assert _coverage("skewed", 10, "percentile") < 0.9
    assert _coverage("skewed", 10, "t") < 0.93
    assert _coverage("normal", 5, "bca") < 0.88


@pytest.mark.parametrize("method", ["bootstrap", "bca", "percentile"])
def test_bootstraps_are_those_of_a_loop(method: str) -> None:
    examples = np.random.default_rng(1).exponential(1, (12, 2, 3))
    low, high = _interval(examples, method, 0.9)
    for place in np.ndindex(2, 3):
        expected = _slow_bootstrap(np.sort(examples[:, *place]), method, 0.9)
        np.testing.assert_allclose((low[place], high[place]), expected, rtol=1e-9)


def _slow_bootstrap(values: np.ndarray, method: str, level: float, n_resamples: int = 2000) -> tuple[float, float]:
    n_examples, generator = len(values), np.random.default_rng(3)
    resampled = []
    for drawn in generator.integers(n_examples, size=(n_resamples, n_examples)):
        chosen = values[drawn]
        shift = chosen.mean() - values.mean()
        resampled.append(shift / (chosen.std() / (n_examples - 1) ** 0.5) if method == "bootstrap" else chosen.mean())
    ordered, levels = sorted(resampled), [(1 - level) / 2, (1 + level) / 2]
    if method == "bca":
        below = sum(value < values.mean() for value in resampled) / n_resamples
        left_out = np.array([np.delete(values, place).mean() for place in range(n_examples)])
        skew = left_out.mean() - left_out
        acceleration = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5)
        shifts = [stats.norm.ppf(below) + stats.norm.ppf(tail) for tail in levels]
        levels = [stats.norm.cdf(stats.norm.ppf(below) + shift / (1 - acceleration * shift)) for shift in shifts]
    low, high = (ordered[round(tail * (n_resamples - 1))] for tail in levels)
    if method == "bootstrap":
        error = values.std(ddof=1) / n_examples**0.5
        return values.mean() - high * error, values.mean() - low * error
    return low, high


@pytest.mark.parametrize(("method", "named"), [("bca", "BCa"), ("percentile", "percentile")])
def test_bootstraps_are_those_of_scipy(method: str, named: str) -> None:
    examples = np.random.default_rng(2).exponential(1, (25, 3))
    ours = statistics.bootstrap_interval(examples, level=0.9, method=method, n_resamples=40_000, seed=0)
    theirs = stats.bootstrap(
        (examples,), np.mean, confidence_level=0.9, method=named, n_resamples=40_000, batch=500, rng=1
    ).confidence_interval
    errors = statistics.standard_error(examples)  # the Monte Carlo error is some hundredths of these
    assert np.abs((ours - np.stack(theirs)) / errors).max() < 0.05


def test_blocks_of_work_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = np.random.default_rng(4).normal(size=(15, 40))
    settings = {"level": 0.95, "n_resamples": 500, "seed": 1}
    whole = {name: statistics.bootstrap_interval(examples, method=name, **settings) for name in statistics.METHODS[1:]}
    flips = statistics.sign_flip_p_value(examples, 0.0, "greater", n_resamples=500, seed=0)
    monkeypatch.setattr(statistics, "_NUMBERS_AT_ONCE", 1000)  # two columns, and 66 resamples
    for name, expected in whole.items():
        np.testing.assert_allclose(statistics.bootstrap_interval(examples, method=name, **settings), expected)
    blocked = statistics.sign_flip_p_value(examples, 0.0, "greater", n_resamples=500, seed=0)
    np.testing.assert_allclose(blocked, flips)


@pytest.mark.parametrize("method", statistics.METHODS)
def test_the_order_of_examples_does_not_matter(method: str) -> None:
    examples = np.random.default_rng(5).exponential(1, (20, 7))
    shuffled = examples[np.random.default_rng(6).permutation(20)]
    np.testing.assert_allclose(_interval(shuffled, method), _interval(examples, method), rtol=1e-12)
    flips = [statistics.sign_flip_p_value(x, 0.9, "less", n_resamples=300, seed=0) for x in (examples, shuffled)]
    np.testing.assert_array_equal(*flips)


@pytest.mark.parametrize("method", statistics.METHODS)
def test_equal_examples_leave_no_doubt_and_undefined_ones_no_answer(method: str) -> None:
    examples = np.random.default_rng(7).normal(size=(8, 3))
    examples[:, 0], examples[2, 1] = 0.3, np.nan
    interval = _interval(examples, method)
    np.testing.assert_allclose(interval[:, 0], 0.3)
    assert np.isnan(interval[:, 1]).all()
    assert interval[0, 2] < examples[:, 2].mean() < interval[1, 2]


def test_a_bootstrap_of_nearly_equal_examples_knows_no_end() -> None:
    examples = np.ones((10, 1))
    examples[3] = 0.5  # a third of the resamples lacks it, and has no spread
    low, high = _interval(examples, "bootstrap")[:, 0]
    assert low == -np.inf
    assert 0.95 < high < 1.5
    assert np.isfinite(_interval(examples, "t")).all()


@pytest.mark.parametrize("alternative", statistics.ALTERNATIVES)
@pytest.mark.parametrize("test", ["t", "sign_flip", "sign_flip of many", "draws"])
def test_p_values_are_uniform_where_there_is_nothing(test: str, alternative: str) -> None:
    generator = np.random.default_rng(8)
    if test == "draws":
        null = generator.exponential(1, (99, N_REPEATS))
        observed = generator.exponential(1, (N_REPEATS, 1))
        found = statistics.p_value_among(observed, null, alternative)[:, 0]
    else:
        examples = generator.normal(1, 2, (20 if "many" in test else 10, N_REPEATS))
        if test == "t":
            error = statistics.standard_error(examples)
            found = statistics.t_p_value(examples.mean(axis=0), error, len(examples), 1.0, alternative)
        else:
            found = statistics.sign_flip_p_value(examples, 1.0, alternative, n_resamples=999, seed=0)
    for level in (0.02, 0.05, 0.1, 0.3, 0.6):
        tolerance = 4 * (level * (1 - level) / N_REPEATS) ** 0.5 + (0.01 if test != "t" else 0)  # p comes in steps
        assert abs((found <= level).mean() - level) < tolerance, level


def test_what_is_there_is_found() -> None:
    examples = np.random.default_rng(9).normal(1, 1, (10, 500))
    error = statistics.standard_error(examples)
    for found in (
        statistics.t_p_value(examples.mean(axis=0), error, 10, 0.0, "greater"),
        statistics.sign_flip_p_value(examples, 0.0, "greater", n_resamples=999, seed=0),
    ):
        assert (found < 0.05).mean() > 0.8
    assert statistics.p_value_among(np.array([[3.0]]), np.zeros((19, 1)), "greater")[0, 0] == 1 / 20


@pytest.mark.parametrize("alternative", statistics.ALTERNATIVES)
def test_tests_are_those_of_loops(alternative: str) -> None:
    examples = np.random.default_rng(10).normal(0.3, 1, (7, 4))
    mean, error = examples.mean(axis=0), statistics.standard_error(examples)
    theirs = stats.ttest_1samp(examples, 0.1, alternative=alternative).pvalue
    np.testing.assert_allclose(statistics.t_p_value(mean, error, 7, 0.1, alternative), theirs)
    flips = statistics.sign_flip_p_value(examples, 0.1, alternative, n_resamples=1, seed=0)
    for column, found in enumerate(flips):
        deviations = examples[:, column] - 0.1
        sums = [sum(s * d for s, d in zip(signs, deviations, strict=True)) for signs in product((1, -1), repeat=7)]
        assert found == pytest.approx(_share(sums, deviations.sum(), alternative))


def _share(draws: list[float], observed: float, alternative: str) -> float:
    greater = sum(draw >= observed - 1e-12 for draw in draws) / len(draws)
    less = sum(draw <= observed + 1e-12 for draw in draws) / len(draws)
    return {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative]


@pytest.mark.parametrize("alternative", statistics.ALTERNATIVES)
def test_shares_of_draws_are_those_of_loops(alternative: str) -> None:
    generator = np.random.default_rng(11)
    observed, null = generator.integers(0, 9, (3, 5)).astype(float), generator.integers(0, 9, (30, 3)).astype(float)
    observed[0, 0], null[:7, 1], null[:, 2] = np.nan, np.nan, np.nan
    found = statistics.p_value_among(observed, null, alternative)
    assert np.isnan(found[0, 0])
    assert np.isnan(found[2]).all()
    for place in [(0, 1), (0, 4), (1, 0), (1, 3)]:
        draws = [*null[~np.isnan(null[:, place[0]]), place[0]], observed[place]]  # the observed one is a draw too
        assert found[place] == pytest.approx(_share(draws, observed[place], alternative))


def test_corrections_are_those_of_their_definitions() -> None:
    p_values = np.array([[0.01, np.nan, 0.04], [0.03, 0.005, 0.9]])
    ordered = [0.005, 0.01, 0.03, 0.04, 0.9]
    holm = {p: max((5 - i) * q for i, q in enumerate(ordered) if q <= p) for p in ordered}
    discovery = {p: min(5 * q / (i + 1) for i, q in enumerate(ordered) if q >= p) for p in ordered}
    for correction, expected in (("holm", holm), ("benjamini_hochberg", discovery), ("none", {})):
        found = statistics.corrected(p_values, correction)
        assert np.isnan(found[0, 1])
        for place in [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]:
            assert found[place] == pytest.approx(min(1.0, expected.get(p_values[place], p_values[place])))
    assert np.isnan(statistics.corrected(np.full(3, np.nan), "holm")).all()


def test_corrections_bound_what_they_say_among_many_heads() -> None:
    generator = np.random.default_rng(12)
    any_false, shares = [], []
    for _ in range(400):
        p_values = np.concatenate([generator.uniform(size=90), stats.norm.sf(generator.normal(3.5, 1, 10))])
        any_false.append((statistics.corrected(p_values, "holm")[:90] <= 0.1).any())
        found = statistics.corrected(p_values, "benjamini_hochberg") <= 0.1
        shares.append(found[:90].sum() / max(found.sum(), 1))
    assert np.mean(any_false) < 0.1 + 4 * (0.09 / 400) ** 0.5
    assert np.mean(shares) < 0.1 + 4 * np.std(shares) / 20
    assert np.mean(shares) > 0.05  # and not by finding nothing


def test_the_number_of_examples_is_the_smallest_that_is_enough() -> None:
    for spread, half_width, level in [(4.0, 0.1, 0.95), (1.0, 1.0, 0.95), (1.0, 5.0, 0.9), (0.3, 0.2, 0.999)]:
        needed = int(statistics.examples_for_half_width(np.array(spread), half_width, level))
        widths = {n: stats.t.ppf((1 + level) / 2, n - 1) * spread / n**0.5 for n in (needed - 1, needed) if n > 1}
        assert widths[needed] <= half_width
        assert needed == 2 or widths[needed - 1] > half_width
    assert statistics.examples_for_stderr(np.array([4.0, 0.0, np.nan]), 0.4)[:2].tolist() == [100, 2]
    assert np.isnan(statistics.examples_for_half_width(np.array(np.nan), 0.4, 0.9))


def test_few_examples_are_refused_where_they_tell_nothing() -> None:
    with pytest.raises(ih.InputError, match=r"3 are too few; take at least 5, or method='t'"):
        _interval(np.ones((3, 2)), "bootstrap")
    assert np.isnan(_interval(np.ones((1, 2)), "t")).all()
    assert np.isnan(statistics.standard_error(np.ones((1, 2)))).all()
    assert np.isnan(statistics.t_p_value(np.ones(2), np.ones(2), 1, 0.0, "less")).all()
