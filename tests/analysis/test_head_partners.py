import numpy as np
import pytest
import xarray as xr

import ih_lens as ih
from tests.viz import realistic


def terms(key: np.ndarray, match: np.ndarray, previous: np.ndarray | None = None) -> xr.Dataset:
    """Of a head with an embedding and one earlier head, whose query is its embedding alone."""
    names = ["embedding", "L0H0"]
    nothing = np.zeros_like(key)
    previous = np.stack([np.full(len(key), np.nan), key[:, 1]], axis=1) if previous is None else previous
    variables = {
        "pairs": (("query_term", "key_term"), np.stack([key.mean(axis=0), [0.0, 0.0]])),
        "query": (("example", "query_term"), np.stack([match, nothing[:, 0]], axis=1)),
        "key": (("example", "key_term"), key),
        "key_previous": (("example", "key_term"), previous),
        "value": (("example", "value_term"), nothing),
        "match": (("example",), match),
        "prefix_matching": (("example",), np.ones(len(key))),
        "copied_first": (("example",), np.ones(len(key))),
    }
    return xr.Dataset(variables, dict.fromkeys(("query_term", "key_term", "value_term"), names), {"head": "L1H0"})


def test_shares_are_ratios_of_means_with_their_errors() -> None:
    generator = np.random.default_rng(0)
    key = generator.normal([1.0, 3.0], 0.3, (50, 2))
    table = ih.match_shares(terms(key, key.sum(axis=1)))
    rows = table.query("side == 'k'").set_index("term")
    share = key[:, 1].mean() / key.sum(axis=1).mean()
    assert rows["share"]["L0H0"] == pytest.approx(share)
    assert rows["contribution"]["L0H0"] == pytest.approx(key[:, 1].mean())
    assert rows["stderr"]["L0H0"] == pytest.approx(key[:, 1].std(ddof=1) / 50**0.5)
    resampled = [key[generator.integers(0, 50, 50)] for _ in range(4000)]
    spread = np.std([sample[:, 1].mean() / sample.sum(axis=1).mean() for sample in resampled])
    assert rows["share_stderr"]["L0H0"] == pytest.approx(spread, rel=0.1)
    assert list(table["side"].unique()) == ["k", "q", "v"]
    assert list(rows.index) == ["L0H0", "embedding"]
    assert table.query("side == 'v'")["share"].isna().all()


def test_errors_of_shares_hold_the_truth_at_their_rate() -> None:
    generator = np.random.default_rng(1)
    inside = []
    for _ in range(400):
        key = generator.normal([1.0, 3.0], [0.8, 0.5], (60, 2))
        row = ih.match_shares(terms(key, key.sum(axis=1))).query("side == 'k' and term == 'L0H0'").iloc[0]
        inside.append(abs(row["share"] - 0.75) < 1.96 * row["share_stderr"])
    assert 0.91 < np.mean(inside) < 0.98


def test_a_match_below_zero_has_no_shares() -> None:
    key = np.full((3, 2), -1.0)
    assert ih.match_shares(terms(key, key.sum(axis=1)))["share"].isna().all()


def test_examples_without_a_query_are_left_out() -> None:
    key = np.array([[1.0, 3.0], [2.0, 2.0], [np.nan, np.nan]])
    rows = ih.match_shares(terms(key, key.sum(axis=1))).query("side == 'k'").set_index("term")
    assert rows["contribution"].to_dict() == {"L0H0": 2.5, "embedding": 1.5}


def test_key_composition_sums_to_the_match() -> None:
    key = np.array([[1.0, 3.0], [2.0, 4.0]])
    previous = np.array([[np.nan, 2.0], [np.nan, 3.5]])
    composed = ih.key_composition(terms(key, key.sum(axis=1), previous)).set_index("term")
    assert composed["contribution"].to_dict() == {
        "previous token": 2.75,
        "other K-composition": 0.75,
        "all else": 1.5,
    }
    assert composed["share"].sum() == pytest.approx(1.0)


def test_partners_with_controls() -> None:
    effects, controls = realistic.path_effects()
    table = ih.head_partners(effects, controls)
    assert list(table["kind"].unique()) == ["K-composition", "Q-composition", "V-composition"]
    best = table[~table["source"].str.contains("all")].iloc[0]
    natural = effects["natural"].sel(side="k")
    lost = 1 - effects["without"].sel(side="k", source="L4H11").mean() / natural.mean()
    assert (best["kind"], best["source"]) == ("K-composition", "L4H11")
    assert best["lost"] == pytest.approx(float(lost))
    of_each = 1 - controls.sel(partner="k L4H11").mean("example") / natural.mean()
    assert best["control"] == pytest.approx(float(of_each.mean()))
    assert best["control_std"] == pytest.approx(float(of_each.std(ddof=1)))
    assert best["n_controls"] == 8
    assert table.query("n_controls == 0")["control"].isna().all()
    assert ih.head_partners(effects)["control"].isna().all()


def test_wrong_results_are_explained() -> None:
    effects, _ = realistic.path_effects()
    with pytest.raises(ih.InputError, match="expected the result of match_terms"):
        ih.match_shares(effects)
    with pytest.raises(ih.InputError, match="expected the result of match_terms"):
        ih.key_composition(effects)
    with pytest.raises(ih.InputError, match="expected the result of path_effects"):
        ih.head_partners(realistic.match_terms())
