import numpy as np
import pytest
import xarray as xr

import ih_lens as ih


def estimate(scores: dict[int, list[float]], noise: float = 0.0) -> ih.Estimate:
    """One layer; per period a score for each head, half of the examples above it and half below."""
    means = np.array([list(heads) for heads in scores.values()])
    shifts = noise * np.array([-1.0, 1.0, -1.0, 1.0])[:, None, None, None]
    values = means[None, :, None, :] + shifts
    coordinates = {"period": list(scores), "layer": [0], "head": range(means.shape[1])}
    return ih.Estimate.from_examples(xr.DataArray(values, coordinates, ("example", *coordinates)))


SCATTERED = {6: [0.9, 0.4, 0.02, 0.1, 0.6], 11: [0.8, 0.3, 0.01, 0.1, 0.1], 20: [0.85, 0.5, 0.0, 0.1, 0.6]}
REPEATED = {
    6: [0.9, 0.5, 0.0, 0.1, 0.7],
    11: [0.9, 0.5, 0.0, 0.2, 0.2],
    20: [0.9, 0.6, 0.1, 0.1, 0.7],
    8: [0.9, 0.5, 1.0, 0.1, 0.1],
}


def test_each_head_is_called_what_it_is() -> None:
    verdict = ih.judge_induction(estimate(SCATTERED), estimate(REPEATED))
    assert verdict.kind.isel(layer=0).values.tolist() == ["induction", "induction", "positional", "other", "positional"]
    assert verdict.heads == [(0, 0), (0, 1)]
    assert verdict.positional_heads == [(0, 2), (0, 4)]
    np.testing.assert_allclose(verdict.minimum[0], [0.8, 0.3, 0.0, 0.1, 0.1])
    np.testing.assert_allclose(verdict.spread[0], [0.1, 0.2, 0.02, 0.0, 0.5])
    assert str(verdict).startswith("an induction model: at random distances and all of the periods 6, 11, 20")


def test_what_is_within_its_error_is_unclear() -> None:
    verdict = ih.judge_induction(estimate(SCATTERED, noise=0.1), estimate(REPEATED, noise=0.1))
    assert verdict.kind.isel(layer=0).values.tolist() == ["induction", "unclear", "positional", "other", "positional"]
    strict = ih.judge_induction(estimate(SCATTERED, noise=0.1), estimate(REPEATED, noise=0.1), min_stderrs=0.0)
    assert strict.heads == [(0, 0), (0, 1)]
    error = 0.1 * np.sqrt(4 / 3) / 2  # of four examples, each 0.1 away
    np.testing.assert_allclose(verdict.stderr, error)


def test_the_table_has_a_row_per_head() -> None:
    table = ih.judge_induction(estimate(SCATTERED), estimate(REPEATED)).to_dataframe()
    assert table["head"].tolist()[:2] == [0, 1]
    solver = table[table["head"] == 2].iloc[0]
    assert solver["kind"] == "positional"
    assert (solver["best_repeated_period"], solver["best_repeated"]) == (8, 1.0)
    assert solver["scattered_11"] == pytest.approx(0.01)


def test_undefined_scores_reach_nothing() -> None:
    scattered = {period: [np.nan, *scores[1:]] for period, scores in SCATTERED.items()}
    verdict = ih.judge_induction(estimate(scattered), estimate({**REPEATED, 6: [np.nan] * 5}))
    assert verdict.kind[0, 0] == "positional"
    none = ih.judge_induction(estimate(scattered), estimate({period: [np.nan] * 5 for period in REPEATED}))
    assert none.kind[0, 0] == "other"
    assert none.to_dataframe().shape[0] == 5


def test_too_few_periods_are_refused() -> None:
    two = {period: SCATTERED[period] for period in (6, 11)}
    with pytest.raises(ih.InputError, match="number of periods: expected an integer of at least 3, got 2"):
        ih.judge_induction(estimate(two), estimate(REPEATED))
    with pytest.raises(ih.InputError, match="number from 0 to 1"):
        ih.judge_induction(estimate(SCATTERED), estimate(REPEATED), threshold=1.5)
