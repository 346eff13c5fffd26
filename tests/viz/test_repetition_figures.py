"""Figures of the loss split, of spikes, loops and repetition show the numbers that they got."""

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens import viz
from tests.viz import repeating
from tests.viz.made_up import traces_of


def test_the_split_has_a_line_and_a_band_per_class() -> None:
    split = repeating.loss_split()
    figure = viz.plot_loss_split({"2L": split, "4L": None}, phase_changes={"2L": (1e9, 2e9)})
    *bands, first, second, third = [trace for trace in traces_of(figure, 1) if trace.x[0] is not None]
    for line, band, name in zip((first, second, third), bands, split.value["token_class"].to_numpy(), strict=True):
        assert line.name == name
        values, stderr = split.value.sel(token_class=name), split.stderr.sel(token_class=name)
        np.testing.assert_array_equal(line.y, values)
        np.testing.assert_array_equal(line.x, values["tokens_elapsed"])
        np.testing.assert_allclose(band.y[:60], values + 2 * stderr)
    assert len({line.line.dash for line in (first, second, third)}) == 3
    assert figure.layout.yaxis.title.text == "loss (nats)"
    assert any(note.text == "not measured" for note in figure.layout.annotations)


def test_parts_are_drawn_under_their_own_title_and_not_mixed_with_losses() -> None:
    figure = viz.plot_loss_split({"2L": repeating.score_parts()}, log_tokens=True)
    assert figure.layout.yaxis.title.text == "part of the score (nats)"
    assert min(min(trace.x) for trace in traces_of(figure, 1) if trace.x[0] is not None) > 0
    with pytest.raises(ih.InputError, match="draw two"):
        viz.plot_loss_split({"one": repeating.score_parts(), "other": repeating.loss_split()})
    alone = ih.Estimate.from_examples(repeating.loss_split().examples.isel(snapshot=-1))  # type: ignore[union-attr]
    with pytest.raises(ih.InputError, match="over snapshots"):
        viz.plot_loss_split({"2L": alone})


def test_spikes_stand_on_the_curve_above_the_median() -> None:
    curve = repeating.spiked_curve()
    spikes = ih.loss_spikes(curve, width=4)
    figure = viz.plot_loss_spikes({"6L": curve, "not measured": None}, {"6L": spikes})
    line, median, points = [trace for trace in traces_of(figure, 1) if trace.x[0] is not None]
    np.testing.assert_array_equal(line.y, curve)
    np.testing.assert_array_equal(median.y, ih.running_median(curve, width=4))
    assert list(points.x) == [41e6, 55e6]
    np.testing.assert_array_equal(points.y, spikes["loss"])
    assert "nats above" in points.text[0]
    with pytest.raises(ih.InputError, match="spikes of 2L"):
        viz.plot_loss_spikes({"6L": curve}, {"2L": spikes})


def test_loops_are_counted_token_by_token() -> None:
    found = repeating.loops()
    figure = viz.plot_loops(found)
    *_, random, without, whole, shares = figure.data
    assert (whole.name, without.name) == ("whole model", "without<br>the heads")
    begun = found["time_to_loop"].sel(condition="whole model").to_numpy()
    assert whole.y[20] == (begun <= 20).sum() / 40
    assert whole.y[-1] == np.isfinite(begun).mean()
    assert random.line.dash == "dot"
    assert [trace.showlegend for trace in figure.data[:4]] == [True, False, True, True]
    np.testing.assert_allclose(shares.y, found["in_loop"].mean("example"))
    np.testing.assert_allclose(
        shares.error_y.array, 2 * found["in_loop"].std("example", ddof=1) / np.sqrt(found.sizes["example"])
    )
    with pytest.raises(ih.InputError, match="generation_loops"):
        viz.plot_loops(ih.repetition(torch.tensor([[1, 2, 3]])))


def test_heads_that_dominate_are_named() -> None:
    found = repeating.dominance()
    figure = viz.plot_repetition_dominance(found, n_named=3)
    assert {note.text for note in figure.layout.annotations} >= {"L2H1", "L3H0", "L3H2"}
    by_name = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(by_name["L2H1"].y, found["dominance"].sel(layer=2, head=1))
    with_errors = viz.plot_repetition_dominance(found, "attribution", n_named=1)
    bars = {trace.name: trace for trace in with_errors.data}["L2H1"].error_y.array
    np.testing.assert_allclose(bars, 0.2)
    assert "nats" in with_errors.layout.yaxis.title.text
    with pytest.raises(ih.InputError, match="measure"):
        viz.plot_repetition_dominance(found, "copying")


def test_names_do_not_lie_on_each_other() -> None:
    found = repeating.dominance()
    found["dominance"][2, 1] = found["dominance"][3, 0]
    figure = viz.plot_repetition_dominance(found, n_named=3)
    heights = sorted(note.y for note in figure.layout.annotations if str(note.text).startswith("L"))
    assert min(np.diff(heights)) > 0.01
