import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih

STEPS = np.arange(0, 2250, 50)


def fall(middle: float, width: float, depth: float = 1.0) -> np.ndarray:
    """A score that falls by `depth` around `middle`."""
    return -depth / (1 + np.exp(-(STEPS - middle) / width))


def test_a_ramp_is_found_with_its_corners():
    scores = np.interp(STEPS, [0, 500, 800, 2200], [0, 0, -1.2, -1.2])
    change = ih.phase_change(STEPS, scores)
    assert change
    assert (change.start, change.end) == (500, 800)
    assert (change.start_index, change.end_index) == (10, 16)
    assert change.share == pytest.approx(1.0)
    assert "100%" in change.reason


def test_a_planted_sigmoid_is_found_where_its_slope_is_a_quarter_of_the_steepest():
    change = ih.phase_change(STEPS, fall(1000, 100))
    half_width = 100 * 2 * np.arctanh(np.sqrt(0.75))  # slope of a sigmoid: 1 - tanh(x / 2)**2 of its steepest
    assert change.found
    assert abs(change.start - (1000 - half_width)) <= 50
    assert abs(change.end - (1000 + half_width)) <= 50
    assert change.share == pytest.approx(np.tanh(np.arctanh(np.sqrt(0.75))), abs=0.06)


def test_a_sudden_drop_between_two_snapshots_is_found():
    change = ih.phase_change(STEPS, np.where(STEPS < 700, -0.1, -1.1))
    assert (change.start, change.end) == (650, 700)
    assert change.share == pytest.approx(1 / 1.1)


@pytest.mark.parametrize("seed", range(20))
def test_a_fall_in_noise_is_found(seed):
    noise = np.random.default_rng(seed).normal(0, 0.03, len(STEPS))
    change = ih.phase_change(STEPS, fall(1000, 40) - 0.1 + noise, stderr=0.03)
    assert change.found
    assert 750 <= change.start < 1000 < change.end <= 1250


@pytest.mark.parametrize("stderr", [0.03, None])
def test_noise_alone_is_not_a_phase_change(stderr):
    """Chance may hold a fall of three standard errors now and then, but not often."""
    found = [
        ih.phase_change(STEPS, np.random.default_rng(seed).normal(-0.05, 0.03, len(STEPS)), stderr=stderr).found
        for seed in range(100)
    ]
    assert np.mean(found) <= 0.05


def test_an_outlier_is_not_a_phase_change():
    scores = np.full(len(STEPS), -0.2)
    scores[20] = -3.0
    assert not ih.phase_change(STEPS, scores)


def test_slow_learning_is_not_a_phase_change():
    change = ih.phase_change(STEPS, -np.log1p(STEPS / 50))
    assert not change.found
    assert (change.start, change.end, change.start_index, change.end_index) == (None, None, None, None)
    assert change.share < 0.5
    assert "of the final score's magnitude, under 50%" in change.reason


def test_an_early_gain_is_reported_as_it_is():
    """A score that saturates at once has its steepest fall at the start: by the definition that is a window."""
    change = ih.phase_change(STEPS, -0.3 * (1 - np.exp(-STEPS / 100)))
    assert change.start_index == 0
    assert change.share == pytest.approx(0.75, abs=0.1)


def test_parts_of_the_rule_can_be_changed():
    scores = fall(1000, 100)
    assert ih.phase_change(STEPS, scores, fraction=0.5).end < ih.phase_change(STEPS, scores).end
    assert not ih.phase_change(STEPS, scores, min_share=0.95)
    assert not ih.phase_change(STEPS, scores, stderr=0.3)
    assert ih.phase_change(STEPS, scores, stderr=0.3, min_stderrs=2.0)


def test_a_fall_within_the_standard_error_is_refused_with_the_reason():
    labelled = xr.DataArray(fall(1000, 40), dims="snapshot", coords={"stderr": ("snapshot", np.full(len(STEPS), 0.5))})
    change = ih.phase_change(STEPS, labelled)
    assert not change.found
    assert "under 3 standard errors of 0.5 nats" in change.reason
    assert ih.phase_change(STEPS, labelled, stderr=0.01).found


def test_unknown_standard_errors_are_replaced_by_the_scatter():
    unknown = xr.DataArray(
        fall(1000, 40), dims="snapshot", coords={"stderr": ("snapshot", np.full(len(STEPS), np.nan))}
    )
    assert ih.phase_change(STEPS, unknown) == ih.phase_change(STEPS, fall(1000, 40))


def test_a_rising_and_a_positive_score():
    rising = ih.phase_change(STEPS, STEPS / 1000.0)
    assert rising.reason == "the score never falls"
    assert np.isnan(rising.share)
    positive = ih.phase_change(STEPS, 2 + fall(1000, 40))
    assert not positive
    assert "no in-context learning" in positive.reason
    assert ih.phase_change(STEPS, np.where(STEPS < 700, 1.0, 0.0)).share == np.inf


def test_exponential_snapshots_are_judged_per_snapshot():
    steps = np.concatenate([[0], 2 ** np.arange(16)])
    scores = -0.05 * (steps > 0) - 1 / (1 + np.exp(-(np.log2(np.maximum(steps, 0.5)) - 11) * 2))
    per_snapshot = ih.phase_change(steps, scores)
    assert (per_snapshot.start, per_snapshot.end) == (2**10, 2**12)
    assert not ih.phase_change(steps, scores, per="step").found  # the first step alone falls 0.05 in one step


def test_even_snapshots_are_the_same_per_snapshot_and_per_step():
    scores = fall(1000, 100)
    assert ih.phase_change(STEPS, scores, per="step") == ih.phase_change(STEPS, scores)


def test_lists_tensors_and_arrays_are_taken():
    scores = fall(1000, 100)
    expected = ih.phase_change(STEPS, scores)
    assert ih.phase_change(STEPS.tolist(), scores.tolist()) == expected
    assert ih.phase_change(torch.as_tensor(STEPS), torch.as_tensor(scores)) == expected
    assert isinstance(expected.start, int)


def test_few_snapshots():
    change = ih.phase_change([0, 1, 2, 3], [0.0, 0.0, -1.0, -1.0])
    assert not change.found
    assert change.reason == "4 snapshots are too few: at least 5 are needed"


@pytest.mark.parametrize(
    ("steps", "scores", "settings", "message"),
    [
        ([0, 1, 2], [0.0, 1.0], {}, "one score per step"),
        (np.zeros((2, 1)), np.zeros((2, 1)), {}, "one score per step"),
        ([0, 1, 2], [0.0, np.nan, 1.0], {}, "expected finite numbers"),
        ([0, 2, 1], [0.0, 1.0, 2.0], {}, "ascending"),
        ([0, 1, 1], [0.0, 1.0, 2.0], {}, "ascending"),
        ([0, 1, 2], [0.0, 1.0, 2.0], {"stderr": [0.1, 0.2]}, "one number or one per snapshot"),
        ([0, 1, 2], [0.0, 1.0, 2.0], {"stderr": -0.1}, "at least 0"),
        ([0, 1, 2], [0.0, 1.0, 2.0], {"fraction": 0.0}, "above 0 and up to 1"),
        ([0, 1, 2], [0.0, 1.0, 2.0], {"per": "token"}, "per: expected one of snapshot, step"),
    ],
)
def test_wrong_input(steps, scores, settings, message):
    with pytest.raises(ih.InputError, match=message):
        ih.phase_change(steps, scores, **settings)
