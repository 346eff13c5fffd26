import numpy as np
import pytest
import xarray as xr

import ih_lens as ih


def scores_of(n_layers: int, n_heads: int, seed: int = 0) -> xr.DataArray:
    values = np.random.default_rng(seed).random((n_layers, n_heads))
    return xr.DataArray(values, {"layer": range(n_layers), "head": range(n_heads)}, ("layer", "head"))


def test_of_100_heads_all_are_opaque_and_of_101_a_sample() -> None:
    assert bool(ih.opaque_heads(scores_of(10, 10)).all())
    opaque = ih.opaque_heads(scores_of(1, 101))
    assert int(opaque.sum()) == 100
    assert opaque.dims == ("layer", "head")


def test_the_best_are_opaque_and_the_rest_of_the_sample_is_random() -> None:
    scores = scores_of(20, 20)
    opaque = ih.opaque_heads(scores)
    ranks = scores.to_numpy().ravel().argsort()[::-1]
    shown = opaque.to_numpy().ravel()[ranks]
    assert shown[:50].all()
    assert shown.sum() == 100
    assert np.flatnonzero(shown[50:]).std() > 30  # spread over the 350 others: a uniform draw has 101
    other = ih.opaque_heads(scores, seed=1)
    assert bool((opaque != other).any())
    xr.testing.assert_identical(opaque, ih.opaque_heads(scores))


def test_the_rest_is_drawn_with_equal_chances() -> None:
    scores = scores_of(5, 8)
    times = sum(ih.opaque_heads(scores, more_than=10, n_opaque=20, seed=seed).astype(int) for seed in range(400))
    assert isinstance(times, xr.DataArray)
    counts = np.sort(times.to_numpy().ravel())
    assert (counts[-10:] == 400).all()
    assert counts[:30].sum() == 400 * 10
    assert counts[0] > 90  # expected 133, standard deviation 9.4
    assert counts[29] < 177


def test_shares_of_the_best() -> None:
    scores = scores_of(11, 11)
    best = ih.opaque_heads(scores, n_opaque=30, share_best=1.0)
    assert scores.where(best).min() > scores.where(~best).max()
    assert int(ih.opaque_heads(scores, n_opaque=0).sum()) == 0
    assert bool(ih.opaque_heads(scores, more_than=121, n_opaque=0).all())


def test_the_last_snapshot_counts_and_undefined_heads_are_never_opaque() -> None:
    first, last = scores_of(11, 11), scores_of(11, 11, seed=1)
    last[0] = np.nan
    stacked = xr.concat([first, last], dim="snapshot")
    opaque = ih.opaque_heads(stacked, n_opaque=115)
    xr.testing.assert_identical(opaque, ih.opaque_heads(last, n_opaque=115))
    assert not bool(opaque[0].any())
    assert bool(opaque[1:].all())


def test_bad_input_is_explained() -> None:
    with pytest.raises(ih.InputError, match=r"share_best: expected a number from 0 to 1, got 2"):
        ih.opaque_heads(scores_of(2, 2), share_best=2.0)
    with pytest.raises(ih.InputError, match="n_opaque: expected an integer of at least 0"):
        ih.opaque_heads(scores_of(2, 2), n_opaque=-1)
    with pytest.raises(ih.InputError, match=r"expected a measure of heads \[layer, head\]"):
        ih.opaque_heads(scores_of(2, 2).isel(layer=0))
