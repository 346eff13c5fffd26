"""Curiosities planted into the results of a run that was never trained."""

import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.curiosities import ANTI_COPYING, OPPOSITE, REVERSING, SKIP_TRIGRAM, SPIKE
from ih_lens.results import stack_snapshots
from tests.analysis.made_up import losses_of

N_EXAMPLES, N_INDICES, N_SNAPSHOTS = 200, 11, 24
START, END = 8, 12
AT = (2, 9)


def _steps() -> list[int]:
    return [10 * n for n in range(N_SNAPSHOTS)]


def _gain(snapshot: int) -> float:
    """How far the phase change has gone, 0 to 1."""
    return float(np.clip((snapshot - START) / (END - START), 0, 1))


def _direction(generator: np.random.Generator) -> np.ndarray:
    """What the phase change does to single losses: later tokens get easier."""
    return -np.linspace(0.2, 2.0, N_INDICES) * generator.uniform(0.5, 1.5, (N_EXAMPLES, 1))


def _run(*, spike: bool = False) -> tuple[ih.TokenLosses, ih.AblationLosses, ih.PhaseChange]:
    """Heads of layer 1: two induction heads, one that lacks their scores but acts like them, one that acts contrary."""
    generator = np.random.default_rng(0)
    hard, direction = generator.normal(4, 1, (N_EXAMPLES, N_INDICES)), _direction(generator)
    snapshots = [hard + _gain(n) * direction + generator.normal(0, 0.05, hard.shape) for n in range(N_SNAPSHOTS)]
    if spike:
        snapshots[18] = snapshots[18] + 0.8
    losses = [losses_of(full, at=AT) for full in snapshots]
    undone = np.array([[0, 0, 0, 0], [0.5, 0.4, 0.45, -0.3]])
    last = snapshots[-1] - undone[..., None, None] * direction + generator.normal(0, 0.05, (2, 4, *hard.shape))
    ablated = losses_of(last, leading={"layer": range(2), "head": range(4)}, at=AT)
    assert isinstance(ablated, ih.AblationLosses)
    whole = stack_snapshots(losses, _steps(), [100 * step for step in _steps()])
    change = ih.phase_change(_steps(), ih.in_context_learning_score(whole, late=9, early=2))
    assert change.found
    return whole, ablated, change


def _scores(copying: float = 0.6) -> ih.HeadScores:
    measures = {
        "prefix_matching": [[0.0, 0.0, 0.0, 0.1], [0.9, 0.8, 0.1, 0.7]],
        "copying": [[0.0, 0.2, 0.0, 0.0], [0.7, 0.6, 0.1, copying]],
        "previous_token": [[0.9, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]],
    }
    return ih.HeadScores.from_tensors({name: torch.tensor(values) for name, values in measures.items()})


SETTINGS = {"late": 9, "early": 2}


def test_planted_heads_are_found_and_no_others() -> None:
    losses, ablated, change = _run()
    found = ih.curiosities(_scores(), losses, ablated, change=change, **SETTINGS)
    kinds = found.groupby("curiosity")["head"].apply(list).to_dict()
    assert kinds == {REVERSING: ["L1H2"], OPPOSITE: ["L1H3", "L1H3"]}
    assert found.attrs["left_out"] == {SKIP_TRIGRAM: "needs context_free"}
    reversing = found[found["curiosity"] == REVERSING].iloc[0]
    assert reversing["type"] == "other"
    assert reversing["prefix_matching"] == pytest.approx(0.1)
    assert reversing["step"] == 230
    assert reversing["reference"] < 0
    assert reversing["value"] < 0.5 * reversing["reference"]


def test_values_are_those_of_the_effects() -> None:
    losses, ablated, change = _run()
    found = ih.curiosities(_scores(), losses, ablated, change=change, **SETTINGS)
    end = ih.TokenLosses(losses.dataset.isel(snapshot=-1))
    effect = ih.ablation_effects(ablated, end, on="in_context_learning", **SETTINGS)
    on_score = found[found["about"].str.startswith("change of the in-context")].iloc[0]
    assert on_score["value"] == pytest.approx(effect.value.sel(layer=1, head=3).item())
    assert on_score["stderr"] == pytest.approx(effect.stderr.sel(layer=1, head=3).item())
    assert on_score["value"] < -4 * on_score["stderr"]


def test_an_ordinary_run_has_none() -> None:
    losses, ablated, change = _run()
    plain = ablated.dataset.copy(deep=True)
    for name in ("random_token", "at_indices", "by_context_index"):
        plain[name][1, 2] = losses.dataset[name].isel(snapshot=-1).to_numpy()
        plain[name][1, 3] = plain[name][1, 1].to_numpy()
    assert len(ih.curiosities(_scores(), losses, ih.AblationLosses(plain), change=change, **SETTINGS)) == 0


def test_thresholds_decide() -> None:
    losses, ablated, change = _run()

    def heads(**thresholds: float) -> set[str]:
        found = ih.curiosities(_scores(), losses, ablated, change=change, **SETTINGS, **thresholds)
        return set(found[found["curiosity"] == REVERSING]["head"])

    assert heads(strength=1.5) == set()
    assert heads(prefix_matching=0.05) == set()
    assert heads(min_stderrs=1e6) == set()
    assert heads(prefix_matching=0.85) == {"L1H1", "L1H2"}  # L1H0 alone is an induction head then


def test_anti_copying_heads_need_a_copying_score_below_zero() -> None:
    losses, _, _ = _run()
    found = ih.curiosities(_scores(copying=-0.2), losses)
    assert found[found["curiosity"] == ANTI_COPYING]["head"].tolist() == ["L1H3"]
    assert set(found.attrs["left_out"]) == {REVERSING, OPPOSITE, SKIP_TRIGRAM}


def test_loss_spikes_are_among_them() -> None:
    losses, ablated, change = _run(spike=True)
    found = ih.curiosities(_scores(), losses, ablated, change=change, **SETTINGS)
    (spike,) = found[found["curiosity"] == SPIKE].to_dict("records")
    assert spike["step"] == 180
    assert spike["value"] == pytest.approx(0.8, abs=0.05)
    assert spike["head"] == ""
    assert "recovered at step 190" in spike["about"]


def test_skip_trigram_heads_are_those_whose_attention_follows_tokens() -> None:
    losses, _, _ = _run()
    each = np.zeros((10, 2, 4)) + np.random.default_rng(0).normal(0, 0.05, (10, 2, 4))
    each[:, 0, 1] += 0.7
    each[:5, 0, 2] += 2.0  # large, but not certain
    each[5:, 0, 2] -= 1.0
    labels = {"layer": range(2), "head": range(4)}
    estimate = ih.Estimate.from_examples(xr.DataArray(each, labels, ("example", "layer", "head")))
    found = ih.curiosities(_scores(), losses, context_free=estimate)
    assert found[found["curiosity"] == SKIP_TRIGRAM]["head"].tolist() == ["L0H1"]


def test_too_few_snapshots_are_said_and_a_missing_phase_change_too() -> None:
    losses, ablated, _ = _run()
    short = ih.TokenLosses(losses.dataset.isel(snapshot=slice(-3, None)))
    found = ih.curiosities(_scores(), short, ablated, **SETTINGS)
    assert found.attrs["left_out"][SPIKE] == "needs 7 snapshots; there are 3"
    assert found.attrs["left_out"][REVERSING] == "needs a phase change"
    none = ih.phase_change([0, 1], [0.0, 0.0])
    assert "too few" in ih.curiosities(_scores(), short, ablated, change=none, **SETTINGS).attrs["left_out"][REVERSING]


def test_refuses_what_does_not_fit() -> None:
    losses, ablated, change = _run()
    short = ih.TokenLosses(losses.dataset.isel(snapshot=slice(-3, None)))
    with pytest.raises(ih.InputError, match="other snapshots"):
        ih.curiosities(_scores(), short, ablated, change=change, **SETTINGS)
    group = losses_of(np.ones((1, N_EXAMPLES, N_INDICES)), leading={"group": ["L1H0+L1H1"]}, at=AT)
    assert isinstance(group, ih.AblationLosses)
    with pytest.raises(ih.InputError, match="every head ablated by itself"):
        ih.curiosities(_scores(), losses, group, **SETTINGS)
