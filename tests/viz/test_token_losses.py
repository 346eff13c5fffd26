"""Losses of single tokens, over a text and over training: what is drawn is what was measured."""

import numpy as np
import pytest

import ih_lens as ih
from ih_lens import viz
from ih_lens.viz import style
from tests.analysis.made_up import losses_of, stacked
from tests.viz.test_coloured_tokens import expected_colour, read

TEXTS = ["<s>", " the", "\n", "<b>", " Mirabel", "é"]


@pytest.fixture
def stack() -> ih.TokenLosses:
    drawn = np.random.default_rng(0).normal(3, 1, (4, 2, 5))
    return stacked(*[losses_of(full, keep_all=True, at=(1, 4)) for full in drawn])


def test_tokens_have_the_colours_of_their_differences(stack: ih.TokenLosses) -> None:
    differences = ih.token_loss_differences(stack, snapshots=(1, 3))
    full = stack.full.to_numpy()
    for example in (0, 1):
        changes = full[3, example] - full[1, example]
        page = viz.coloured_loss_differences(differences, TEXTS, example=example)._repr_html_()
        first, *others = read(page).tokens
        assert (first.text, first.colour) == ("<s>", style.UNDEFINED)
        assert "no loss" in first.says
        assert [token.text for token in others] == ["·the", "↵", "<b>", "·Mirabel", "é"]
        for place, token in enumerate(others):
            colour = [int(token.colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert colour == expected_colour(-changes[place], np.abs(changes).max()), "blue is better"
            before, after = full[1, example, place], full[3, example, place]
            change = f"{changes[place]:+.2f}".replace("-", "−")
            assert token.says.endswith(f"   loss {change} nats   {before:.2f} before, {after:.2f} after")
        assert f"predicted better, by {np.abs(changes).max():.2f} nats" in page


def test_texts_and_differences_must_belong_together(stack: ih.TokenLosses) -> None:
    differences = ih.token_loss_differences(stack)
    with pytest.raises(ih.InputError, match="tokens: expected 6"):
        viz.coloured_loss_differences(differences, TEXTS[1:])
    with pytest.raises(ih.InputError, match="example: expected 0 to 1"):
        viz.coloured_loss_differences(differences, TEXTS, example=2)
    with pytest.raises(ih.InputError, match="result of token_loss_differences"):
        viz.coloured_loss_differences(stack.full.isel(snapshot=0), TEXTS)


def test_lines_are_the_losses_of_the_chosen_tokens(stack: ih.TokenLosses) -> None:
    chosen = [(1, 4), (0, 3), (1, 1)]
    results = {"a": ih.chosen_token_losses(stack, chosen), "not measured": None}
    figure = viz.plot_chosen_token_losses(
        results, texts=[TEXTS[index] for _, index in chosen], phase_changes={"a": (1000, 2000)}
    )
    lines = [trace for trace in figure.data if trace.x is not None and trace.x[0] is not None]
    for line, (example, index) in zip(lines, chosen, strict=True):
        np.testing.assert_array_equal(line.y, stack.full.to_numpy()[:, example, index - 1])
        np.testing.assert_array_equal(line.x, [0, 1000, 2000, 3000])
    legend = {trace.name: trace.line.color for trace in figure.data if trace.showlegend and trace.mode == "lines"}
    names = ["·Mirabel (example 1, index 4)", "&lt;b&gt; (example 0, index 3)", "·the (example 1, index 1)"]
    assert list(legend) == names
    assert [line.line.color for line in lines] == list(legend.values())
    assert len(set(legend.values())) == 3
    (band,) = [shape for shape in figure.layout.shapes if shape.name == "phase change"]
    assert (band.x0, band.x1) == (1000, 2000)
    alone = viz.plot_chosen_token_losses({"a": ih.chosen_token_losses(stack, [(0, 3)])})
    assert alone.data[-1].name == "(index 3)"


def test_tokens_must_be_the_same_for_all_and_few(stack: ih.TokenLosses) -> None:
    one, other = (ih.chosen_token_losses(stack, [place]) for place in ((0, 1), (0, 2)))
    with pytest.raises(ih.InputError, match="the same tokens for all models"):
        viz.plot_chosen_token_losses({"a": one, "b": other})
    with pytest.raises(ih.InputError, match="at least one model"):
        viz.plot_chosen_token_losses({"a": None})
    with pytest.raises(ih.InputError, match="texts: expected 1"):
        viz.plot_chosen_token_losses({"a": one}, texts=["a", "b"])
    with pytest.raises(ih.InputError, match="at most 21"):
        viz.plot_chosen_token_losses({"a": ih.chosen_token_losses(stack, [(0, 1)] * 22)})
    with pytest.raises(ih.InputError, match="result of chosen_token_losses"):
        viz.plot_chosen_token_losses({"a": ih.loss_curve(stack)})
