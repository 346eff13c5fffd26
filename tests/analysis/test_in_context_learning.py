import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked


def test_score_and_standard_error_by_hand():
    full = np.full((3, 11), 9.0)
    full[:, 1], full[:, 8] = [4, 5, 6], [3, 1, 2]  # context indices 2 and 9
    score = ih.in_context_learning_score(losses_of(full), late=9, early=2)
    assert float(score) == -3.0
    assert float(score.stderr) == pytest.approx(np.std([-1, -4, -4], ddof=1) / np.sqrt(3))
    assert score.dims == ()
    assert score.attrs["unit"] == "nats"
    assert (score.attrs["late"], score.attrs["early"], score.attrs["window"]) == (9, 2, 0)


def test_the_default_indices_are_the_papers():
    losses = random_losses(0, n_indices=511, at=(50, 500))
    means = losses.by_context_index
    expected = float(means.sel(context_index=500) - means.sel(context_index=50))
    assert float(ih.in_context_learning_score(losses)) == pytest.approx(expected)


@pytest.mark.parametrize("window", [0, 1, 3])
def test_window_is_the_same_from_every_view(window):
    full = np.random.default_rng(1).normal(4, 1, (7, 11))
    expected = full[:, 8 - window : min(11, 9 + window)].mean(1) - full[:, max(0, 1 - window) : 2 + window].mean(1)
    kept = losses_of(full, window=window)
    every = losses_of(full, keep_all=True)
    means = losses_of(full)
    means = ih.TokenLosses(means.dataset.drop_vars("at_indices"))
    for losses in (kept, every, means):
        score = ih.in_context_learning_score(losses, late=9, early=2, window=window)
        assert float(score) == pytest.approx(expected.mean())
    for losses in (kept, every):
        score = ih.in_context_learning_score(losses, late=9, early=2, window=window)
        assert float(score.stderr) == pytest.approx(expected.std(ddof=1) / np.sqrt(7))


def test_standard_error_is_unknown_where_only_means_were_kept():
    losses = random_losses(0)
    assert np.isnan(ih.in_context_learning_score(losses, late=8, early=2).stderr)
    assert np.isnan(ih.in_context_learning_score(losses, late=9, early=2, window=1).stderr)
    assert not np.isnan(ih.in_context_learning_score(losses, late=9, early=2).stderr)


def test_standard_error_of_one_example_is_unknown():
    score = ih.in_context_learning_score(random_losses(0, n_examples=1), late=9, early=2)
    assert np.isfinite(score)
    assert np.isnan(score.stderr)


def test_leading_dimensions_are_kept():
    series = stacked(random_losses(0), random_losses(1), random_losses(2))
    scores = ih.in_context_learning_score(series, late=9, early=2)
    assert scores.dims == ("snapshot",)
    assert scores.step.to_numpy().tolist() == [0, 10, 20]
    assert scores.tokens_elapsed.to_numpy().tolist() == [0, 1000, 2000]
    for seed in range(3):
        single = ih.in_context_learning_score(random_losses(seed), late=9, early=2)
        assert float(scores[seed]) == float(single)
        assert float(scores.stderr[seed]) == float(single.stderr)
    assert ih.in_context_learning_score(random_ablations(0), late=9, early=2).dims == ("layer", "head")


def test_a_context_that_is_too_short_is_told_what_to_pass():
    with pytest.raises(ih.InputError, match=r"pass early= and late= .* early=5, late=47"):
        ih.in_context_learning_score(random_losses(0, n_indices=47))
    with pytest.raises(ih.InputError, match="too short for an in-context learning score"):
        ih.in_context_learning_score(losses_of(np.ones((3, 1)), at=(1,)))


def test_indices_that_were_not_kept_are_named():
    only = ih.TokenLosses(random_losses(0).dataset.isel(context_index=[1, 8]))
    assert np.isfinite(ih.in_context_learning_score(only, late=9, early=2))
    with pytest.raises(ih.InputError, match=r"context indices \[3\], which were not kept \(kept: \[2, 9\]\)"):
        ih.in_context_learning_score(only, late=9, early=3)
    with pytest.raises(ih.InputError, match=r"window=1 need the losses at context indices \[1, 3, 8, 10\]"):
        ih.in_context_learning_score(only, late=9, early=2, window=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"late": 2, "early": 9}, "expected early before late"),
        ({"late": 2, "early": 2}, "expected early before late"),
        ({"late": 9, "early": 0}, "early: expected an integer of at least 1"),
        ({"late": 9, "early": 2, "window": -1}, "window: expected an integer of at least 0"),
    ],
)
def test_wrong_indices(settings, message):
    with pytest.raises(ih.InputError, match=message):
        ih.in_context_learning_score(random_losses(0), **settings)


def test_difference_is_paired():
    first, second = random_losses(0), random_losses(1)
    each = [losses.at_indices.to_numpy() for losses in (first, second)]
    paired = (each[0][:, 1] - each[0][:, 0]) - (each[1][:, 1] - each[1][:, 0])
    difference = ih.in_context_learning_difference(first, second, late=9, early=2)
    assert float(difference) == pytest.approx(paired.mean())
    assert float(difference.stderr) == pytest.approx(paired.std(ddof=1) / np.sqrt(7))
    same = ih.in_context_learning_difference(first, first, late=9, early=2)
    assert (float(same), float(same.stderr)) == (0.0, 0.0)


def test_difference_of_means_has_no_standard_error():
    difference = ih.in_context_learning_difference(random_losses(0), random_losses(1), late=8, early=2)
    assert np.isfinite(difference)
    assert np.isnan(difference.stderr)


def test_only_the_same_examples_and_snapshots_are_compared():
    with pytest.raises(ih.FingerprintError, match="different examples"):
        ih.in_context_learning_difference(random_losses(0), random_losses(1, fingerprint="other"), late=9, early=2)
    early, later = (stacked(random_losses(0), random_losses(1), steps=steps) for steps in ([0, 10], [0, 20]))
    with pytest.raises(ih.InputError, match=r"differ in step: \[0, 10\] and \[0, 20\]"):
        ih.in_context_learning_difference(early, later, late=9, early=2)


def test_attribution_is_ablated_minus_unablated_and_paired():
    ablated, unablated = random_ablations(0), random_losses(1)
    attribution = ih.attribution_to_in_context_learning(ablated, unablated, late=9, early=2)
    assert attribution.dims == ("layer", "head")
    gone, there = ablated.at_indices.to_numpy()[1, 2], unablated.at_indices.to_numpy()
    paired = (gone[:, 1] - gone[:, 0]) - (there[:, 1] - there[:, 0])
    assert float(attribution[1, 2]) == pytest.approx(paired.mean())
    assert float(attribution.stderr[1, 2]) == pytest.approx(paired.std(ddof=1) / np.sqrt(7))


def test_attribution_over_snapshots_and_for_heads_that_were_not_ablated():
    ablated, unablated = random_ablations(0), random_losses(1)
    missing = ih.AblationLosses(ablated.dataset.where(ablated.dataset["head"] != 1))
    over_time = ih.attribution_to_in_context_learning(
        stacked(missing, ablated), stacked(unablated, unablated), late=9, early=2
    )
    assert over_time.dims == ("snapshot", "layer", "head")
    assert np.isnan(over_time[0, :, 1]).all()
    assert np.isnan(over_time.stderr[0, :, 1]).all()
    assert np.isfinite(over_time[1]).all()
    with pytest.raises(ih.InputError, match=r"expected the leading dimensions \['snapshot'\]"):
        ih.attribution_to_in_context_learning(stacked(ablated), unablated, late=9, early=2)
