import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens import viz

RANGE = {"range": (-1.0, 1.0)}


def scores(**measures: list[list[float]]) -> ih.HeadScores:
    tensors = {name: torch.tensor(values) for name, values in measures.items()}
    return ih.HeadScores.from_tensors(tensors, attributes=dict.fromkeys(tensors, RANGE))


KINDS = scores(
    copying=[[1.0, 1.0, 1.0], [-0.5, 0.2, -0.9]],
    duplicate_token=[[0.1, 0.9, 0.0], [0.2, 0.1, 0.0]],
    prefix_matching=[[0.0, 0.1, 0.2], [0.8, 0.1, 0.6]],
    anti_induction=[[0.0, 0.0, -0.1], [-0.8, np.nan, -0.35]],
    ov_suppression=[[0.0, 0.9, 0.0], [0.0, 0.1, 0.7]],
)


def test_every_number_stands_at_its_head_and_kind() -> None:
    cells, crosses = viz.plot_induction_kinds(KINDS, threshold=0.05).data
    assert list(cells.x) == ["prefix matching", "duplicate token", "anti-induction", "OV suppression", "copying"]
    assert list(cells.y) == ["L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"]
    names = ["prefix_matching", "duplicate_token", "anti_induction", "ov_suppression", "copying"]
    expected = np.stack([KINDS[name].to_numpy().ravel() for name in names], axis=1)
    np.testing.assert_array_equal(cells.z, expected)
    assert cells.text[3][2] == "-0.80"
    assert cells.text[4][2] == ""
    assert (list(crosses.x), list(crosses.y)) == (["anti-induction"], ["L1H1"])
    assert (cells.zmin, cells.zmax) == (-1, 1)


def test_heads_are_shown_for_what_they_attend_to_not_for_what_they_write() -> None:
    figure = viz.plot_induction_kinds(KINDS, threshold=0.5)
    assert list(figure.data[0].y) == ["L0H1", "L1H0", "L1H2"]
    assert figure.layout.annotations[-1].text == "Heads that reach 0.5 in magnitude on any kind."
    fewer = viz.plot_induction_kinds(KINDS, threshold=0.5, max_heads=2)
    assert list(fewer.data[0].y) == ["L0H1", "L1H0"]
    assert fewer.layout.annotations[-1].text.endswith("the 2 strongest of 3.")
    line = figure.layout.shapes[0]
    assert line.x0 == line.x1 == 2.5, "between attention and what is written"


def test_where_none_reaches_the_threshold_the_strongest_are_shown() -> None:
    figure = viz.plot_induction_kinds(KINDS, threshold=0.95)
    assert len(figure.data[0].y) == 5
    assert figure.layout.annotations[-1].text == "No head reaches 0.95 on any kind; the strongest are shown."


def test_columns_can_be_chosen() -> None:
    figure = viz.plot_induction_kinds(KINDS, measures=["copying", "prefix_matching"], threshold=0.85)
    assert list(figure.data[0].x) == ["copying", "prefix matching"]
    assert list(figure.data[0].y) == ["L0H0", "L0H1", "L0H2", "L1H2"]
    assert not figure.layout.shapes
    with pytest.raises(ih.InputError, match="no measure 'induction'"):
        viz.plot_induction_kinds(KINDS, measures=["induction"])


def test_scores_of_another_range_have_no_colour_here() -> None:
    offsets = ih.HeadScores.from_tensors(
        {"best_offset": torch.tensor([[0.0]])}, attributes={"best_offset": {"range": (-2, 3)}}
    )
    with pytest.raises(ih.InputError, match="'best_offset' goes from -2 to 3"):
        viz.plot_induction_kinds(offsets, measures=["best_offset"])
