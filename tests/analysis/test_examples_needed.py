import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ih_lens as ih


def _pilot(n_examples: int, n_heads: int, seed: int) -> ih.Estimate:
    values = np.random.default_rng(seed).normal(0, 2, (n_heads, n_examples))
    return ih.Estimate.from_examples(xr.DataArray(values, dims=("group", "example")))


def test_so_many_examples_give_that_standard_error() -> None:
    needed = int(ih.examples_needed(4.0, stderr=0.126))
    assert needed == 1008
    assert 4.0 / needed**0.5 <= 0.126 < 4.0 / (needed - 1) ** 0.5
    by_width = int(ih.examples_needed(4.0, half_width=0.5, level=0.9))
    assert stats.t.ppf(0.95, by_width - 1) * 4.0 / by_width**0.5 <= 0.5


def test_a_pilot_says_how_many_each_head_needs() -> None:
    pilot = _pilot(10, 3, 0)
    assert pilot.examples is not None
    needed = ih.examples_needed(pilot, stderr=0.1)
    assert needed.dims == ("group",)
    for group in range(3):
        assert needed[group] == np.ceil((pilot.examples[:, group].std(ddof=1) / 0.1) ** 2)
    assert (ih.examples_needed(pilot, stderr=0.1, assurance=0.8) > needed).all()


def test_so_many_examples_are_enough_as_often_as_assured() -> None:
    pilots = _pilot(10, 2000, 1)  # the true standard deviation is 2
    for assurance in (0.5, 0.8, 0.95):
        needed = ih.examples_needed(pilots, stderr=0.1, assurance=assurance)
        share = float((needed >= (2 / 0.1) ** 2).mean())
        assert abs(share - assurance) < 4 * (assurance * (1 - assurance) / 2000) ** 0.5


def test_an_interval_of_so_many_examples_is_as_narrow_as_wanted() -> None:
    needed = int(ih.examples_needed(_pilot(200, 1, 2), half_width=0.3)[0])
    interval = _pilot(needed, 1, 3).confidence_interval(0.95, method="t")
    half = float(interval[0, 1] - interval[0, 0]) / 2
    assert 0.24 < half < 0.36


def test_what_has_no_spread_has_no_number() -> None:
    assert ih.examples_needed(_pilot(1, 2, 0), stderr=0.1).isnull().all()
    assert ih.examples_needed(_pilot(1, 2, 0), half_width=0.1, assurance=0.8).isnull().all()
    assert int(ih.examples_needed(0.0, half_width=0.1)) == 2


def test_wrong_settings_are_explained() -> None:
    for settings in ({}, {"stderr": 0.1, "half_width": 0.1}, {"stderr": 0.0}, {"half_width": -1.0}):
        with pytest.raises(ih.InputError, match="expected one of stderr and half_width, above 0"):
            ih.examples_needed(4.0, **settings)
    with pytest.raises(ih.InputError, match="pilot: expected a standard deviation"):
        ih.examples_needed(-1.0, stderr=0.1)
    with pytest.raises(ih.InputError, match="without assurance"):
        ih.examples_needed(4.0, stderr=0.1, assurance=0.9)
    with pytest.raises(ih.InputError, match="assurance: expected a number between 0 and 1"):
        ih.examples_needed(_pilot(5, 1, 0), stderr=0.1, assurance=2.0)
