"""Sentences come from the numbers of a table, and turn round with them."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.errors import InputError
from ih_lens.report.findings import findings
from ih_lens.report.table import ModelAnalysisTable

RECORD = {"settings": {"ablation": "pattern_preserving"}, "rows": [], "series": {}}


def model(
    n_layers: int,
    *,
    smeared: bool = False,
    seed: int | None = 0,
    heads: int = 0,
    score: float = -2.0,
    change: tuple[float, float] | None = None,
    removed: tuple[float, ...] | None = None,
    mlps: bool = False,
) -> xr.Dataset:
    """The part of a model's data set that sentences are made of."""
    types = np.full((n_layers, 4), "other", dtype="<U30")
    types[-1, :heads] = "induction"
    scores = xr.DataArray([0.0, score], dims="snapshot")
    variables: dict[str, Any] = {
        "head_type": (("layer", "head"), types),
        "prefix_matching": (("snapshot", "layer", "head"), np.full((2, n_layers, 4), 0.8 if heads else 0.07)),
        "in_context_learning_score": scores,
        "in_context_learning_score_stderr": ("snapshot", [0.1, 0.02]),
    }
    coordinates = {}
    if removed is not None:
        groups = [f"L{n_layers - 1}H{head}" for head in range(len(removed) - 1)] + ["together"]
        variables["joint_ablation_share_removed"] = (("kind", "group"), [removed])
        coordinates = {"kind": ["pattern_preserving"], "group": groups}
    found = (
        PhaseChange(True, *change, 0.8, 0, 1, "fell")
        if change
        else PhaseChange(False, None, None, 0.1, None, None, "flat")
    )
    description = {"n_layers": n_layers, "attention_only": not mlps, "smeared_keys": smeared, "seed": seed}
    attributes = {"model": description, "phase_change": asdict(found), "joint_ablation": {} if removed else None}
    texts = {name: json.dumps(value) for name, value in attributes.items()}
    return xr.Dataset(variables, coordinates, texts)


def sentences(*models: xr.Dataset) -> list[str]:
    return findings(ModelAnalysisTable({str(place): dataset for place, dataset in enumerate(models)}, RECORD))


def test_the_papers_story() -> None:
    told = sentences(
        model(1, score=-0.57, change=(0, 100_000)),
        model(1, smeared=True, heads=2, change=(200_000, 300_000), removed=(0.2, 0.1, 0.97)),
        model(2, heads=4, change=(600_000, 800_000), removed=(0.1, 0.05, 0.0, 0.02, 0.93)),
        model(2, smeared=True, heads=4, change=(300_000, 500_000), removed=(0.1, 0.9)),
    )
    assert told == [
        "1 layer (seed 0): no induction head (highest prefix matching 0.07); in-context learning score "
        "-0.57 ± 0.02 nats.",
        "1 layer, smeared keys (seed 0): 2 induction heads (highest prefix matching 0.80); in-context learning score "
        "-2.00 ± 0.02 nats.",
        "2 layers (seed 0): 4 induction heads (highest prefix matching 0.80); in-context learning score "
        "-2.00 ± 0.02 nats.",
        "2 layers, smeared keys (seed 0): 4 induction heads (highest prefix matching 0.80); in-context learning score "
        "-2.00 ± 0.02 nats.",
        "1 layer (seed 0): phase change at 0-100k tokens, without any induction head: a gain of its own kind.",
        "1 layer, smeared keys (seed 0): phase change at 200k-300k tokens.",
        "2 layers (seed 0): phase change at 600k-800k tokens.",
        "2 layers, smeared keys (seed 0): phase change at 300k-500k tokens.",
        "Smeared keys, 1 layer: induction heads in 1 of 1 with them, 0 of 1 without.",
        "1 layer, smeared keys (seed 0): ablating all 2 induction heads together (pattern-preserving) leaves 3% of the "
        "in-context learning score; the one that matters most, alone, leaves 80%.",
        "2 layers (seed 0): ablating all 4 induction heads together (pattern-preserving) leaves 7% of the in-context "
        "learning score; the one that matters most, alone, leaves 90%.",
        "Smeared keys, 2 layers: induction heads in 1 of 1 with them, 1 of 1 without.",
        "Smeared keys, 2 layers: phase change at 300k-500k tokens, earlier than without, at 600k-800k.",
        "2 layers, smeared keys (seed 0): ablating all 4 induction heads together (pattern-preserving) leaves 10% of "
        "the in-context learning score; the one that matters most, alone, leaves 90%.",
        "Plain one-layer models: in-context learning score down to -0.57 nats, 0.28 of the weakest of all others "
        "(-2.00 nats).",
        "Deeper or smeared models: 3 of 3 have induction heads, 3 of 3 a phase change.",
        "Plain one-layer models: 0 of 1 have induction heads, 1 of 1 a phase change.",
    ]


def test_the_opposite_story() -> None:
    told = "\n".join(
        sentences(
            model(1, heads=1, score=-3.0),
            model(2, score=-1.0),
            model(3, heads=2, score=-4.0, change=(1000, 3000), removed=(0.6, 0.1, 0.05)),
            model(3, smeared=True, heads=2, score=-4.0, change=(2000, 9000)),
        )
    )
    assert "1 layer (seed 0): 1 induction head (highest prefix matching 0.80)" in told
    assert "2 layers (seed 0): no induction head" in told
    assert "2 layers (seed 0): no phase change (flat)." in told
    assert "Smeared keys, 3 layers: phase change at 2k-9k tokens, not earlier than without, at 1k-3k." in told
    assert "leaves 95% of the in-context learning score; the one that matters most, alone, leaves 40%." in told
    assert "-3.00 nats, 3.00 of the weakest of all others (-1.00 nats)" in told
    assert "Deeper or smeared models: 2 of 3 have induction heads, 2 of 3 a phase change." in told
    assert "Plain one-layer models: 1 of 1 have induction heads, 0 of 1 a phase change." in told


def test_seeds_stand_together_in_order() -> None:
    told = sentences(
        model(2, seed=1, heads=3, score=-1.5, change=(400, 600)),
        model(2, seed=0, heads=4, score=-1.9),
        model(2, seed=0, smeared=True, heads=4, change=(500, 800)),
        model(2, seed=1, smeared=True, heads=4, change=(100, 200)),
    )
    assert told[0].startswith("2 layers (seeds 0, 1): 4, 3 induction heads (highest prefix matching 0.80, 0.80)")
    assert "-1.90 ± 0.02, -1.50 ± 0.02 nats" in told[0]
    assert "2 layers (seeds 0, 1): phase change in 1 of 2 at 400-600 tokens." in told
    assert "Smeared keys, 2 layers: phase change at 100-200 tokens, earlier than without, at 400-600." in told
    assert not any("one-layer" in sentence for sentence in told)


def test_mlps_and_unknown_seeds_are_groups_of_their_own() -> None:
    told = sentences(model(2, mlps=True, seed=None), model(2, seed=None))
    assert told[0].startswith("2 layers: no induction head")
    assert told[1].startswith("2 layers with MLPs: no induction head")


def test_no_learning_at_all_is_said() -> None:
    assert any("shows no in-context learning (0.10 nats)" in text for text in sentences(model(1), model(2, score=0.1)))


def test_a_table_without_scores_is_refused() -> None:
    with pytest.raises(InputError, match="no row in_context_learning_score"):
        sentences(model(1).drop_vars("in_context_learning_score"))


def test_sentences_of_a_real_table(table: ModelAnalysisTable) -> None:
    told = findings(table)
    assert sum("in-context learning score" in sentence for sentence in told) >= 3
    assert told[-1].startswith("Plain one-layer models: 0 of 1 have induction heads")
