"""Figures of trainings under clamps show the numbers that they got, and nothing else."""

import numpy as np
import pandas as pd
import pytest

import ih_lens as ih
from ih_lens.viz import clamping
from tests.viz.made_up import notes_of, traces_of

LOSSES = pd.DataFrame(
    [
        {"condition": condition, "seed": seed, "step": step, "loss": 3.0 / (step + 1) + seed}
        for condition in ("free", "clamped")
        for seed in (3, 5)
        for step in range(6)
    ]
)
TIMES = pd.DataFrame(
    {
        "condition": ["free", "free", "clamped", "clamped"],
        "seed": [3, 5, 3, 5],
        "step": [40.0, np.nan, 10.0, 14.0],
        "n_steps": [90] * 4,
    }
)


def test_losses_stand_in_a_panel_per_condition() -> None:
    figure = clamping.plot_condition_losses(LOSSES, levels={"threshold": 0.28})
    assert notes_of(figure) == ["free", "clamped"]
    level, first, second = traces_of(figure, 2)
    assert (set(level.y), tuple(level.x), level.name) == ({0.28}, (0.0, 5.0), "threshold")
    assert [line.name for line in (first, second)] == ["seed 3", "seed 5"]
    chosen = LOSSES[(LOSSES["condition"] == "clamped") & (LOSSES["seed"] == 5)]
    np.testing.assert_array_equal(second.x, chosen["step"])
    np.testing.assert_array_equal(second.y, chosen["loss"])
    assert first.line.color != second.line.color
    assert [trace.name for trace in figure.data if trace.showlegend] == ["threshold", "seed 3", "seed 5"]


def test_a_logarithmic_axis_begins_at_step_one() -> None:
    figure = clamping.plot_condition_losses(LOSSES, log_steps=True)
    assert figure.layout.xaxis.type == "log"
    assert all(min(trace.x) == 1 for trace in traces_of(figure, 1))
    assert clamping.plot_condition_losses(LOSSES).layout.xaxis.type != "log"


def test_learning_times_have_medians_and_points_and_tell_what_never_learned() -> None:
    bars, *points, never = clamping.plot_learning_times(TIMES).data
    assert list(bars.y) == ["free", "clamped"]
    np.testing.assert_array_equal(bars.x, [65.0, 12.0])  # 90 stands for the training that did not learn
    assert [trace.name for trace in points] == ["seed 3", "seed 5"]
    np.testing.assert_array_equal(points[1].x, [np.nan, 14.0])
    assert (list(never.x), list(never.y)) == ([90.0], ["free"])
    assert never.marker.symbol == "triangle-right-open"
    learned = clamping.plot_learning_times(TIMES.fillna(50.0)).data
    assert [trace.type for trace in learned] == ["bar", "scatter", "scatter"]


def test_losses_by_condition_are_grouped() -> None:
    losses = pd.DataFrame(
        {"group": ["a", "a", "b"], "condition": ["x", "y", "x"], "seed": [0, 0, 0], "loss": [1.0, 2.0, 3.0]}
    )
    bars, points = clamping.plot_losses_by_condition(losses).data
    assert [list(level) for level in bars.y] == [["a", "a", "b"], ["x", "y", "x"]]
    np.testing.assert_array_equal(bars.x, [1, 2, 3])
    np.testing.assert_array_equal(points.x, [1, 2, 3])


def test_dissociation_has_a_panel_per_property_and_a_line_per_part() -> None:
    times = pd.DataFrame(
        [
            {"condition": condition, "varied": varied, "number": number, "seed": seed, "step": number * (seed + 1.0)}
            for condition in ("match", "copy")
            for varied, numbers in (("labels", (5, 10)), ("classes", (50, 800)))
            for number in numbers
            for seed in (0, 1, 2)
        ]
    )
    figure = clamping.plot_dissociation(times)
    line, points, *_ = traces_of(figure, 2)
    np.testing.assert_array_equal(line.x, [50, 800])
    np.testing.assert_array_equal(line.y, [100, 1600])
    assert len(points.x) == 6
    assert figure.layout.xaxis2.title.text == "number of classes"
    assert list(figure.layout.xaxis.ticktext) == ["5", "10"]
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["match", "copy"]


def test_toy_model_has_a_line_per_condition() -> None:
    table = pd.DataFrame({"condition": ["a", "a", "b", "b"], "step": [0, 1, 0, 1], "loss": [1.0, 0.5, 1.0, 0.1]})
    figure = clamping.plot_toy_model(table)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    np.testing.assert_array_equal(figure.data[1].y, [1.0, 0.1])


def test_wrong_input() -> None:
    with pytest.raises(ih.InputError, match="n_steps are missing"):
        clamping.plot_learning_times(TIMES.drop(columns="n_steps"))
    with pytest.raises(ih.InputError, match="at least one row"):
        clamping.plot_condition_losses(LOSSES[:0])
