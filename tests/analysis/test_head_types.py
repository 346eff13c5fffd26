import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.results import stack_snapshots

NAN = float("nan")
#        prefix matching, copying, previous token, type
CASES = [
    (0.30, 0.01, 0.0, "induction"),
    (0.90, 0.80, 0.9, "induction"),
    (0.90, -0.01, 0.0, "anti_copying_prefix_matching"),
    (0.90, -0.50, 0.9, "anti_copying_prefix_matching"),
    (0.29, 0.90, 0.30, "previous_token"),
    (0.29, 0.90, 0.29, "other"),
    (0.90, 0.00, 0.00, "other"),
    (0.90, NAN, 0.50, "previous_token"),
    (0.90, NAN, 0.00, "other"),
    (NAN, 0.50, NAN, "other"),
]


def scores_of(rows: list[tuple[float, float, float]]) -> ih.HeadScores:
    """One layer with a head per row."""
    columns = zip(("prefix_matching", "copying", "previous_token"), zip(*rows, strict=True), strict=True)
    return ih.HeadScores.from_tensors({name: torch.tensor([values]) for name, values in columns})


def test_every_kind_of_head():
    types = ih.head_types(scores_of([case[:3] for case in CASES]))
    assert types.dims == ("layer", "head")
    assert types.to_numpy().tolist() == [[case[3] for case in CASES]]
    assert types.sel(layer=0, head=4).item() == "previous_token"
    assert types.attrs["prefix_matching_threshold"] == 0.3


def test_the_last_snapshot_counts():
    before, after = scores_of([(0.1, 0.9, 0.0)]), scores_of([(0.8, 0.9, 0.0)])
    assert ih.head_types(stack_snapshots([before, after], [0, 1], [0, 10])).item() == "induction"
    assert ih.head_types(stack_snapshots([after, before], [0, 1], [0, 10])).item() == "other"


def test_thresholds_are_arguments():
    scores = scores_of([(0.2, 0.1, 0.4), (0.9, -0.1, 0.4)])
    assert ih.head_types(scores, prefix_matching=0.2).to_numpy()[0, 0] == "induction"
    np.testing.assert_array_equal(ih.head_types(scores, previous_token=0.5)[0, 0], "other")
    assert set(ih.head_types(scores, copying=0.2).to_numpy().flat) == {"previous_token"}


def test_wrong_input():
    with pytest.raises(ih.InputError, match="copying: expected a number from 0 to 1"):
        ih.head_types(scores_of([(0.1, 0.1, 0.1)]), copying=-0.1)
    with pytest.raises(ih.InputError, match="no measure 'copying'"):
        ih.head_types(ih.HeadScores.from_tensors({"prefix_matching": torch.ones(1, 1)}))
