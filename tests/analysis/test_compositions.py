import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.compositions import above_baseline
from ih_lens.types import HeadIndex

DIMS = ("layer", "head", "earlier_layer", "earlier_head")


def made_up(n_layers: int = 3, n_heads: int = 2) -> xr.DataArray:
    values = np.random.default_rng(0).random((n_layers, n_heads, n_layers, n_heads))
    for layer in range(n_layers):
        values[layer, :, layer:] = np.nan
    return xr.DataArray(values, dims=DIMS).assign_coords(baseline_mean=0.25, baseline_std=0.5)


def test_pairs_come_in_the_order_of_their_scores() -> None:
    scores = made_up()
    pairs = ih.strongest_compositions(scores, k=5)
    expected = np.sort(scores.to_numpy()[np.isfinite(scores)])[::-1]
    np.testing.assert_array_equal(pairs["score"], expected[:5])
    for _, pair in pairs.iterrows():
        assert pair["score"] == scores[(*pair["head"], *pair["earlier_head"])]
        assert pair["head"].layer > pair["earlier_head"].layer
        assert pair["above_baseline"] == pair["score"] - 0.25
        assert pair["deviations"] == (pair["score"] - 0.25) / 0.5
    assert isinstance(pairs["head"][0], HeadIndex)
    assert len(ih.strongest_compositions(scores, k=99)) == 12


def test_the_order_of_dimensions_does_not_matter() -> None:
    scores = made_up()
    turned = scores.transpose(*reversed(DIMS))
    assert ih.strongest_compositions(turned).equals(ih.strongest_compositions(scores))
    xr.testing.assert_equal(above_baseline(turned), scores - 0.25)


def test_nothing_composes_in_one_layer() -> None:
    pairs = ih.strongest_compositions(made_up(n_layers=1))
    assert pairs.empty
    assert list(pairs.columns) == ["head", "earlier_head", "score", "above_baseline", "deviations"]


def test_bad_input_is_explained() -> None:
    with pytest.raises(ih.InputError, match=r"expected composition scores .* with baseline_mean and baseline_std"):
        ih.strongest_compositions(made_up().drop_vars("baseline_std"))
    with pytest.raises(ih.InputError, match=r"choose a snapshot with \.isel first"):
        ih.strongest_compositions(made_up().expand_dims("snapshot"))
    with pytest.raises(ih.InputError, match="k: expected an integer of at least 1"):
        ih.strongest_compositions(made_up(), k=0)
