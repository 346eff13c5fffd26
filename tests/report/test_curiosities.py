"""Curiosities of whole tables: what `curiosities` finds, as far as a table keeps what it takes."""

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from ih_lens.analysis.curiosities import ANTI_COPYING, OPPOSITE, REVERSING, SKIP_TRIGRAM, SPIKE

N_SNAPSHOTS, N_EXAMPLES = 20, 50
SHAPE = (N_SNAPSHOTS, 2, 4)


def model(*, spike: bool = False, ablated: bool = True) -> xr.Dataset:
    """Heads of layer 1: an induction head, one that acts like it, one that acts contrary, one that anti-copies."""
    generator = np.random.default_rng(0)
    curve = np.linspace(4, 2, N_SNAPSHOTS)
    curve[12] += 1.0 if spike else 0.0
    scores: dict[str, Any] = {name: np.zeros(SHAPE) for name in ("prefix_matching", "copying", "previous_token")}
    scores["prefix_matching"][:, 1] = [0.9, 0.1, 0.8, 0.6]
    scores["copying"][:, 1] = [0.7, 0.0, 0.5, -0.3]
    moved, changed = np.zeros(SHAPE), np.zeros(SHAPE)
    moved[:, 1], changed[:, 1] = [-1.0, -0.9, -0.4, 0.0], [0.3, 0.0, -0.5, 0.0]
    rows = {
        "ablation_before_and_after": moved,
        "ablation_in_context_learning": changed,
        "ablation_in_context_learning_stderr": np.full(SHAPE, 0.01),
    }
    dims = ("snapshot", "layer", "head")
    variables = {name: (dims, values) for name, values in {**scores, **(rows if ablated else {})}.items()}
    noise = generator.normal(0, 0.001, (N_SNAPSHOTS, N_EXAMPLES)) + generator.normal(0, 1, N_EXAMPLES)
    variables["random_token"] = (("snapshot", "example"), curve[:, None] + noise)
    steps = 10 * np.arange(N_SNAPSHOTS)
    labels = {"step": ("snapshot", steps), "tokens_elapsed": ("snapshot", 100 * steps)}
    reasons = {} if ablated else {"ablation_before_and_after": "because heads were not ablated"}
    return xr.Dataset(variables, {**labels, "layer": range(2), "head": range(4)}, {"not_measured": json.dumps(reasons)})


def found_in(**models: xr.Dataset) -> Any:
    return ih.table_curiosities(ih.ModelAnalysisTable(models, {}))


def test_planted_heads_and_spikes_are_found_by_model() -> None:
    found = found_in(plain=model(), spiked=model(spike=True))
    plain = found[found["model"] == "plain"]
    assert plain.groupby("curiosity")["head"].apply(list).to_dict() == {
        REVERSING: ["L1H1"],
        OPPOSITE: ["L1H2"],
        ANTI_COPYING: ["L1H3"],
    }
    assert np.isnan(plain[plain["curiosity"] == REVERSING]["stderr"]).all()
    assert plain[plain["curiosity"] == OPPOSITE]["stderr"].item() == 0.01
    assert set(plain["step"]) == {190}
    spikes = found[found["curiosity"] == SPIKE]
    assert spikes["model"].tolist() == ["spiked"]
    assert spikes["step"].item() == 120
    assert found.attrs["left_out"]["plain"] == {SKIP_TRIGRAM: "needs context_free"}


def test_what_was_not_measured_is_said() -> None:
    found = found_in(plain=model(ablated=False))
    assert found["curiosity"].tolist() == [ANTI_COPYING]
    left_out = found.attrs["left_out"]["plain"]
    assert left_out[REVERSING] == "because heads were not ablated"
    assert left_out[OPPOSITE] == "the table has no row ablation_in_context_learning"


def test_nothing_found_is_an_empty_table() -> None:
    ordinary = model()
    for name in ("prefix_matching", "ablation_before_and_after"):
        ordinary[name][:] = 0
    found = found_in(plain=ordinary)
    assert len(found) == 0
    assert list(found.columns[:3]) == ["model", "curiosity", "head"]


def test_a_measured_table_can_be_searched(table: ih.ModelAnalysisTable) -> None:
    found = ih.table_curiosities(table)
    assert set(found.attrs["left_out"]) == set(table.models)
    for model_name, reasons in found.attrs["left_out"].items():
        assert (REVERSING in reasons) == (not table.phase_changes[model_name].found)


@pytest.mark.parametrize("min_stderrs", [1.0, 1e6])
def test_thresholds_reach_every_model(min_stderrs: float) -> None:
    found = ih.table_curiosities(ih.ModelAnalysisTable({"plain": model()}, {}), min_stderrs=min_stderrs)
    assert (OPPOSITE in set(found["curiosity"])) == (min_stderrs == 1.0)
