import numpy as np
import pytest

import ih_lens as ih
from tests.viz import realistic


def test_bars_are_the_shares_and_the_rest_is_their_sum() -> None:
    terms = realistic.match_terms()
    shares = ih.match_shares(terms)
    figure = ih.viz.plot_match_terms(terms, k=4)
    assert [annotation.text for annotation in figure.layout.annotations[:3]] == [
        "keys",
        "queries",
        "values (what it copies)",
    ]
    for trace, side in zip(figure.data, ("k", "q", "v"), strict=True):
        of_side = shares[shares["side"] == side].set_index("term")
        names = [label.partition(" (")[0] for label in trace.y]
        assert names[-1] == f"{len(of_side) - 4} others"
        for name, length, error in zip(names[:-1], trace.x[:-1], trace.error_x.array[:-1], strict=True):
            assert length == pytest.approx(of_side["contribution"][name])
            assert error == pytest.approx(of_side["stderr"][name])
        assert trace.y[0] == f"{names[0]} ({round(100 * of_side['share'].iloc[0])} %)"
        assert sum(trace.x) == pytest.approx(of_side["contribution"].sum())
        smallest = of_side["contribution"][names[:-1]].abs().min()
        assert (of_side.drop(names[:-1])["contribution"].abs() <= smallest).all()


def test_terms_of_a_head_without_a_match_have_no_shares() -> None:
    terms = realistic.match_terms()
    figure = ih.viz.plot_match_terms(terms.assign(match=-terms["match"], value=-abs(terms["value"])), k=3)
    assert all("%" not in name for trace in figure.data for name in trace.y)


def test_cells_are_the_pairs_and_the_rest_their_sums() -> None:
    terms = realistic.match_terms()
    matrix = ih.viz.plot_score_terms(terms, k=5).data[0]
    pairs = terms["pairs"]
    assert np.sum(matrix.z) == pytest.approx(float(pairs.sum()))
    assert matrix.z.shape == (6, 6)
    row, column = list(matrix.y).index("embedding"), list(matrix.x).index("L4H11")
    assert matrix.z[row, column] == pytest.approx(float(pairs.sel(query_term="embedding", key_term="L4H11")))
    named = [str(name) for name in matrix.y[:-1]]
    others = pairs.drop_sel(query_term=named).sel(key_term="L4H11").sum()
    assert matrix.z[-1, column] == pytest.approx(float(others))
    assert matrix.text[row, column] == f"{matrix.z[row, column]:.2g}"
    complete = ih.viz.plot_score_terms(terms, k=999).data[0]
    assert complete.z.shape == pairs.shape


def test_what_is_lost_and_its_controls() -> None:
    table = ih.head_partners(*realistic.path_effects())
    figure = ih.viz.plot_head_partners(table, k=5)
    bars, controls = figure.data[:2]
    rows = table[table["kind"] == "K-composition"].set_index("source")
    assert set(bars.y) >= {"L4H11", "L3H0", "all earlier heads", "previous token, all heads"}
    for name, length in zip(bars.y, bars.x, strict=True):
        assert length == pytest.approx(100 * rows["lost"][name])
    assert dict(zip(controls.y, controls.x, strict=True)) == pytest.approx(
        {name: 100 * rows["control"][name] for name in ("L4H11", "L3H0")}
    )
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False, False, False]


def test_wrong_results_are_explained() -> None:
    effects, _ = realistic.path_effects()
    with pytest.raises(ih.InputError, match="match_terms"):
        ih.viz.plot_match_terms(effects)
    with pytest.raises(ih.InputError, match="match_terms"):
        ih.viz.plot_score_terms(effects)
    with pytest.raises(ih.InputError, match="partners"):
        ih.viz.plot_head_partners(ih.match_shares(realistic.match_terms()))
