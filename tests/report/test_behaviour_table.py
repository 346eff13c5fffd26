import json

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.oracles.behaving import reading_model

PAIRS = [
    ("bab bem dab dem fab.", "xbab xbem xdab xdem xfab.", "0-0 1-1 2-2 3-3 4-4"),
    ("gab gem kab kem lab.", "xgab xgem xkab xkem xlab.", "0-0 1-1 2-2 3-3 4-4"),
    ("nab nem pab pem rab.", "xnab xnem xpab xpem xrab.", "0-0 1-1 2-2 3-3 4-4"),
]
TEXT = [" ".join(f"{first}{last}" for last in ("ab", "em", "io", "ul") for first in "bdfgklmnprstvz")] * 3


@pytest.fixture(scope="module")
def model():
    return reading_model("with_mlps")


@pytest.fixture(scope="module")
def table(model) -> ih.BehaviourTable:
    asked = ["literal_copying", "translation", ih.PatternMatching(n_lines=8, n_examples=3, n_words=3)]
    return ih.behaviour_table(model, text=TEXT, translations=PAIRS, behaviours=asked, progress=False)


def test_it_holds_what_the_measures_give(model, table: ih.BehaviourTable) -> None:
    alone = ih.score_behaviours(
        model,
        behaviours=[ih.LiteralCopying(text=TEXT), ih.Translation(pairs=PAIRS)],
        progress=False,
    )
    induction = ih.score_heads(model)
    assert table.behaviours == ("literal_copying", "translation", "pattern_matching")
    for scores, names in ((alone, alone.names), (induction, ["prefix_matching", "copying"])):
        for name in names:
            np.testing.assert_allclose(table.scores[name], scores[name], atol=1e-9)
            np.testing.assert_allclose(table.scores.stderr(name), scores.stderr(name), atol=1e-9)
            expected = scores.estimate(name).examples
            np.testing.assert_allclose(table.scores.estimate(name).examples, expected, atol=1e-9)
    assert "translation_excess" in table.scores.names
    assert "ov_copying_eigenvalues" not in table.scores.names


def test_it_becomes_a_data_frame_with_a_row_per_head(table: ih.BehaviourTable) -> None:
    frame = table.to_dataframe()
    assert len(frame) == 8
    assert list(frame.columns[:4]) == ["layer", "head", "prefix_matching", "copying"]
    row = frame[(frame["layer"] == 1) & (frame["head"] == 2)].iloc[0]
    for name in table.behaviours:
        for end in ("", "_baseline", "_excess", "_attribution", "_attribution_baseline"):
            assert row[f"{name}{end}"] == pytest.approx(table.scores.head("L1H2")[f"{name}{end}"])
        assert row[f"{name}_stderr"] == pytest.approx(table.scores.stderr(name).sel(layer=1, head=2).item())


def test_the_strongest_are_those_farthest_above_their_baseline(table: ih.BehaviourTable) -> None:
    best = table.top("translation", 2)
    assert best == table.scores.top("translation_excess", 2)
    assert len(best) == 2
    with pytest.raises(
        ih.InputError, match="behaviour: expected one of literal_copying, translation, pattern_matching"
    ):
        table.top("prefix_matching")
    shown = repr(table)
    assert shown.startswith("BehaviourTable of 2 layers of 4 heads")
    assert all(str(table.top(name, 1)[0][0]) in shown for name in table.behaviours)
    assert str(best[0][0]) in table._repr_html_()


def test_it_can_be_saved_with_what_it_was_measured_on(table: ih.BehaviourTable, tmp_path) -> None:
    read = ih.HeadScores.load(table.scores.save(tmp_path / "scores.json"))
    for name in table.scores.names:
        np.testing.assert_allclose(read[name], table.scores[name])
    attributes = read["literal_copying"].attrs
    assert attributes["source"] == "given"
    assert attributes["span"] == 16
    assert attributes["n_pos"] == 120  # what 168 tokens of text are enough for
    assert read["translation"].attrs["n_aligned"] == 3
    parameters = json.loads(read.attrs["behaviours"])
    assert parameters["pattern_matching"]["n_lines"] == 8


def test_its_figure_shows_every_head_at_its_scores(table: ih.BehaviourTable) -> None:
    figure = table.figure()
    titles = [note.text for note in figure.layout.annotations][:3]
    assert titles == ["Literal copying", "Translation", "Pattern matching"]
    for column, name in enumerate(table.behaviours, start=1):
        axis = "x" if column == 1 else f"x{column}"
        own = [trace for trace in figure.data if (trace.xaxis or "x") == axis]
        points = next(trace for trace in own if trace.mode == "markers" and trace.x[0] is not None)
        np.testing.assert_allclose(points.x, table.scores["prefix_matching"].to_numpy().ravel())
        np.testing.assert_allclose(points.y, table.scores[name].to_numpy().ravel())
        stems = next(trace for trace in own if trace.mode == "lines+markers")
        ends = np.asarray(stems.y, dtype=float).reshape(-1, 3)
        assert sorted(ends[:, 1]) == pytest.approx(sorted(table.scores[name].to_numpy().ravel()))
        assert sorted(ends[:, 0]) == pytest.approx(sorted(table.scores[f"{name}_baseline"].to_numpy().ravel()))
    named = {name for note in figure.layout.annotations for name in note.text.split(", ")}
    positive = [str(head) for name in table.behaviours for head, excess in table.top(name, 3) if excess > 0.01]
    assert set(positive) <= named
    alone = ih.viz.plot_behaviours(table.scores, behaviours=["translation"], against="copying", n_named=0)
    assert alone.layout.annotations[0].text == "Translation"
    assert not any(note.text.startswith("L") for note in alone.layout.annotations)
    assert alone.layout.xaxis.title.text == "copying (-1 to 1)"
    with pytest.raises(ih.InputError, match="got none with a baseline"):
        ih.viz.plot_behaviours(ih.HeadScores.from_tensors({"prefix_matching": table.scores.to_tensor("copying")}))


def test_own_texts_and_the_start_token_reach_the_measures(model) -> None:
    table = ih.behaviour_table(
        model, text=TEXT, translations=PAIRS, behaviours=["translation"], bos=None, progress=False
    )
    assert table.scores["translation"].attrs["bos"] == "none"
    assert table.scores["prefix_matching"].attrs["bos"] == "none"
    assert table.scores["translation"].attrs["source"] == "given"
    model_without = reading_model("attention_only")
    model_without.tokenizer = None
    with pytest.raises(ih.CapabilityError, match="the model has no tokenizer"):
        ih.behaviour_table(model_without)


def test_heads_at_the_same_place_share_a_line(table: ih.BehaviourTable) -> None:
    numbers = {
        "prefix_matching": torch.tensor([[0.9, 0.9, 0.1, 0.2]]),
        "translation": torch.tensor([[0.8, 0.8, 0.3, 0]]),
    }
    baseline = torch.zeros(1, 4)
    scores = {**numbers, "translation_baseline": baseline, "translation_excess": numbers["translation"] - baseline}
    attributes = {"translation": {"range": (0.0, 1.0)}}
    figure = ih.viz.plot_behaviours(ih.HeadScores.from_tensors(scores, attributes=attributes), n_named=4)
    assert [note.text for note in figure.layout.annotations][1:-1] == ["L0H0, L0H1", "L0H2"]  # L0H3 is at its baseline
