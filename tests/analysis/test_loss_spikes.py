"""Loss spikes planted into curves."""

import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from tests.analysis.made_up import losses_of, stacked

N_SNAPSHOTS = 60


def _falling() -> np.ndarray:
    """A plateau, a phase change and a slow gain: never upwards."""
    steps = np.arange(N_SNAPSHOTS)
    return 3.5 - 0.8 / (1 + np.exp(-(steps - 25) / 1.5)) - 0.01 * steps


def _curve(values: np.ndarray) -> xr.DataArray:
    steps = 10 * np.arange(len(values))
    return xr.DataArray(
        values, {"step": ("snapshot", steps), "tokens_elapsed": ("snapshot", 100 * steps)}, ("snapshot",)
    )


def _noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, N_SNAPSHOTS)


def test_a_phase_change_is_no_spike() -> None:
    assert len(ih.loss_spikes(_curve(_falling()))) == 0
    assert len(ih.loss_spikes(_curve(_falling() + _noise()))) == 0


def test_a_planted_spike_is_found_with_its_size_and_recovery() -> None:
    values = _falling() + _noise()
    values[40:43] += [0.3, 0.6, 0.2]
    (spike,) = ih.loss_spikes(_curve(values), width=4).to_dict("records")
    assert spike["step"] == 410
    assert spike["tokens_elapsed"] == 41_000
    assert spike["height"] == pytest.approx(0.6, abs=0.05)
    assert spike["n_snapshots"] == 3
    assert spike["recovered"] == 430
    assert spike["scatters"] > 20


def test_a_spike_at_the_end_has_not_recovered() -> None:
    values = _falling() + _noise()
    values[-1] += 0.5
    (spike,) = ih.loss_spikes(_curve(values)).to_dict("records")
    assert spike["step"] == 590
    assert np.isnan(spike["recovered"])


def test_two_spikes_are_two() -> None:
    values = _falling() + _noise()
    values[[12, 45]] += 0.4
    found = ih.loss_spikes(_curve(values))
    assert found["step"].tolist() == [120, 450]


def test_noise_is_hardly_ever_a_spike() -> None:
    found = [len(ih.loss_spikes(_curve(_falling() + _noise(seed)))) for seed in range(100)]
    assert sum(found) <= 2


def test_heights_are_paired_over_examples() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 2, (50, 1))
    snapshots = [level + hard + generator.normal(0, 0.02, (50, 11)) for level in _falling()]
    snapshots[40] += 0.5
    (spike,) = ih.loss_spikes(stacked(*(losses_of(full) for full in snapshots))).to_dict("records")
    assert spike["step"] == 400
    assert 0.001 < spike["stderr"] < 0.02  # single losses spread by 2 nats


def test_what_is_within_its_error_is_no_spike() -> None:
    generator = np.random.default_rng(0)
    snapshots = [np.full((50, 11), level) for level in _falling()]
    snapshots[40] = snapshots[40] + generator.normal(0.02, 1.0, (50, 11))
    losses = stacked(*(losses_of(full) for full in snapshots))
    assert len(ih.loss_spikes(losses, min_share=0)) == 0
    assert len(ih.loss_spikes(losses, min_share=0, min_stderrs=0)) == (ih.loss_curve(losses)[40] > 3.5 - 0.8 - 0.4)


def test_the_running_median_is_the_median_of_the_snapshots_around() -> None:
    values = _falling() + _noise()
    found = ih.running_median(_curve(values), width=2).to_numpy()
    for place in range(2, N_SNAPSHOTS - 2):
        assert found[place] == np.median(values[place - 2 : place + 3])
    assert found[0] == values[0]
    assert found[1] == np.median(values[:3])
    assert found[-1] == np.median(values[-3:])


def test_refuses_curves_that_are_none() -> None:
    with pytest.raises(ih.InputError, match="at least 7 snapshots"):
        ih.loss_spikes(_curve(np.ones(5)))
    with pytest.raises(ih.InputError, match="finite"):
        ih.loss_spikes(_curve(np.where(np.arange(20) == 3, np.nan, 1.0)))
