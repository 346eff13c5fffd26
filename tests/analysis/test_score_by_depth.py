import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.score_by_depth import relative_depth


def measure(rows: list[list[float]]) -> xr.DataArray:
    return xr.DataArray(np.array(rows), dims=("layer", "head"))


def test_depth_of_layers() -> None:
    assert relative_depth(1).tolist() == [0.0]
    assert relative_depth(2).tolist() == [0.0, 1.0]
    assert relative_depth(5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_maxima_and_quantiles_of_models_together() -> None:
    one = measure([[0.1, 0.2]])
    three = measure([[0.3, 0.0], [0.9, 0.7], [0.5, 0.4]])
    found = ih.score_by_depth([one, three], n_bins=2, quantiles=(0.5, 1.0))
    assert found.dims == ("quantile", "depth")
    np.testing.assert_array_equal(found["depth"], [0.25, 0.75])
    np.testing.assert_array_equal(found["n_heads"], [4, 4])  # depth 1/2 opens the second bin
    np.testing.assert_allclose(found.sel(quantile=1.0), [0.3, 0.9])
    np.testing.assert_allclose(found.sel(quantile=0.5), [0.15, 0.6])


@pytest.mark.parametrize("n_bins", [1, 2, 3, 5, 7, 8, 10, 13])
def test_every_bin_begins_at_its_lower_end(n_bins: int) -> None:
    deep = measure([[float(layer)] for layer in range(n_bins + 1)])  # depths are exactly the ends of the bins
    found = ih.score_by_depth([deep], n_bins=n_bins, quantiles=(0.0, 1.0))
    expected = [*range(n_bins - 1), n_bins - 1]
    np.testing.assert_array_equal(found.sel(quantile=0.0), expected)
    np.testing.assert_array_equal(found.sel(quantile=1.0), [*range(n_bins - 1), n_bins])
    np.testing.assert_allclose(found["depth_to"] - found["depth_from"], 1 / n_bins)


def test_undefined_heads_and_empty_bins() -> None:
    found = ih.score_by_depth([measure([[np.nan, 0.5], [np.nan, np.nan]])], n_bins=3)
    np.testing.assert_array_equal(found["n_heads"], [1, 0, 0])
    np.testing.assert_array_equal(found.sel(quantile=1.0), [0.5, np.nan, np.nan])


def test_bad_input_is_explained() -> None:
    grid = measure([[0.1]])
    with pytest.raises(ih.InputError, match="at least one model, got none"):
        ih.score_by_depth([])
    with pytest.raises(ih.InputError, match=r"quantiles: expected numbers from 0 to 1, at least one; got \[2.0\]"):
        ih.score_by_depth([grid], quantiles=[2.0])
    with pytest.raises(ih.InputError, match="at least one; got \\[\\]"):
        ih.score_by_depth([grid], quantiles=[])
    with pytest.raises(ih.InputError, match="n_bins: expected an integer of at least 1"):
        ih.score_by_depth([grid], n_bins=0)
