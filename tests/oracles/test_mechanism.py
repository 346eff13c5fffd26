"""Both ways to build an induction head by hand: what is found in each must be what was put there."""

import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from tests.oracles.hand_built import (
    ANTI_COPYING,
    DUPLICATE_TOKEN,
    INDUCTION,
    POINTER,
    PREVIOUS_TOKEN,
    TWO_BEFORE,
    UNIFORM,
    induction_model,
    pointer_model,
    smeared_induction_model,
)

UNIFORM_MATCH = sum((i // 12) / (i + 1) for i in range(12, 48)) / 36
"""Prefix matching of attention that is spread evenly, for 4 x 12 tokens."""


def repeated(model: HookedTransformer, bos: int | None = None) -> torch.Tensor:
    return ih.repeated_random_tokens(model, length=12, repeats=4, n_examples=3, bos=bos)


@pytest.fixture(scope="module")
def by_keys() -> ih.HeadExplanation:
    model = induction_model()
    return ih.explain_head(model, (1, INDUCTION), repeated(model))


@pytest.fixture(scope="module")
def by_queries() -> ih.HeadExplanation:
    model = pointer_model()
    return ih.explain_head(model, (1, POINTER), repeated(model))


def lost(explanation: ih.HeadExplanation, kind: str) -> dict[str, float]:
    rows = explanation.to_dataframe().query("kind == @kind")
    return dict(zip(rows["source"], rows["lost"], strict=True))


def score_share(explanation: ih.HeadExplanation, kind: str) -> dict[str, float]:
    rows = explanation.to_dataframe().query("kind == @kind")
    return dict(zip(rows["source"], rows["score_share"], strict=True))


def test_k_composition_with_the_previous_token_head_is_found(by_keys: ih.HeadExplanation) -> None:
    found = lost(by_keys, "K-composition")
    previous = f"L0H{PREVIOUS_TOKEN}"
    # without that term attention is even over all positions but the first, which the head avoids
    assert found[previous] == pytest.approx(1 - UNIFORM_MATCH, abs=0.01)
    together = ("all earlier heads", "previous token, all heads")
    assert all(found[name] == pytest.approx(found[previous]) for name in together)
    assert all(
        value == pytest.approx(0.0, abs=1e-9) for name, value in found.items() if name not in (previous, *together)
    )
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in lost(by_keys, "Q-composition").values())
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in lost(by_keys, "V-composition").values())
    shares = score_share(by_keys, "K-composition")
    assert shares[previous] > 0.9  # the rest keeps the head from the first position
    assert shares["previous token, all heads"] > 0.9
    assert str(by_keys).startswith(f"L1H{INDUCTION}: K-composition with L0H{PREVIOUS_TOKEN} carries 93 ± ")


def test_q_composition_with_the_duplicate_token_head_is_found(by_queries: ih.HeadExplanation) -> None:
    found, duplicate = lost(by_queries, "Q-composition"), f"L0H{DUPLICATE_TOKEN}"
    assert found[duplicate] == pytest.approx(1 - UNIFORM_MATCH, abs=0.01)
    others = {name: value for name, value in found.items() if name not in (duplicate, "all earlier heads")}
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in others.values())
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in lost(by_queries, "K-composition").values())
    assert score_share(by_queries, "Q-composition")[duplicate] == pytest.approx(1.0)
    assert score_share(by_queries, "K-composition")["all earlier heads"] == pytest.approx(0.0)
    assert f"Q-composition with {duplicate} carries" in str(by_queries).splitlines()[0]


def test_pairs_of_terms_tell_the_two_apart(by_keys: ih.HeadExplanation, by_queries: ih.HeadExplanation) -> None:
    for explanation, pair in (
        (by_keys, ("embedding", f"L0H{PREVIOUS_TOKEN}")),
        (by_queries, (f"L0H{DUPLICATE_TOKEN}", "positions")),
    ):
        pairs = explanation.terms["pairs"]
        assert tuple(map(str, pairs.stack(pair=("query_term", "key_term")).idxmax("pair").item())) == pair
        assert float(pairs.sel(query_term=pair[0], key_term=pair[1]) / pairs.sum()) > 0.9
    composed = ih.key_composition(by_keys.terms).set_index("term")["contribution"]
    assert composed["previous token"] == pytest.approx(200.0)  # the sharpness that was built in
    assert abs(ih.key_composition(by_queries.terms)["share"][0]) < 1e-12


def test_other_heads_of_the_same_size_take_nothing(by_keys: ih.HeadExplanation) -> None:
    best = by_keys.strongest("k", 1).iloc[0]
    assert best["n_controls"] == 1  # the only other head that writes anything
    assert best["control"] == pytest.approx(0.0, abs=1e-9)


def test_what_is_copied(by_keys: ih.HeadExplanation) -> None:
    assert by_keys.copied_first == 1.0
    values = ih.match_shares(by_keys.terms).query("side == 'v'").set_index("term")
    assert values["share"]["embedding"] == pytest.approx(1.0)
    assert values["contribution"]["embedding"] == pytest.approx(1 - 1 / 24)  # the logit less the vocabulary's mean
    model = induction_model()
    anti = ih.explain_head(model, (1, ANTI_COPYING), repeated(model))
    assert anti.copied_first == 0.0
    assert "does not raise" in str(anti)


def test_heads_without_a_match_and_heads_of_the_first_layer() -> None:
    model = induction_model()
    assert str(ih.explain_head(model, (1, UNIFORM), repeated(model))).endswith(
        "no match to explain (prefix matching 0.06)."
    )
    smeared = smeared_induction_model()
    told = ih.explain_head(smeared, "L0H0", repeated(smeared, bos=23))
    assert "in the first layer" in str(told)
    assert told.partners.empty
    shares = ih.match_shares(told.terms).query("side == 'k'").set_index("term")["share"]
    assert shares["embedding"] == pytest.approx(1.0)


def test_pointer_arithmetic_is_found_where_it_was_built_and_nowhere_else() -> None:
    model = pointer_model()
    found = ih.pointer_arithmetic(model, repeated(model))
    assert found.attrs["duplicates"] == f"L0H{DUPLICATE_TOKEN}"
    shares = found["share"].to_numpy()
    assert shares[1, POINTER] == pytest.approx(1 - UNIFORM_MATCH, abs=1e-6)
    assert found["score_share"][1, POINTER] == pytest.approx(1.0)
    assert abs(shares[1, POINTER + 1 :]).max() < 1e-9
    assert bool(found["share"][0].isnull().all())
    other = ih.pointer_arithmetic(induction_model(), repeated(model))
    assert float(abs(other["share"][1]).max()) < 1e-9
    assert float(other["prefix_matching"][1, INDUCTION]) == pytest.approx(1.0)
    none = ih.pointer_arithmetic(model, repeated(model), duplicates=[(0, TWO_BEFORE)])
    assert float(abs(none["share"][1]).max()) < 1e-9


def test_wiring_of_single_pairs() -> None:
    for model, earlier, later, carries in (
        (induction_model(), PREVIOUS_TOKEN, INDUCTION, "its keys alone"),
        (pointer_model(), DUPLICATE_TOKEN, POINTER, "its queries alone"),
    ):
        found = ih.head_wiring(model, (0, earlier), (1, later), tokens=repeated(model)).set_index("removed_from")
        through = {"everything", "all but its values", carries, "its keys, queries and values"}
        for path, value in found["lost"].items():
            assert value == pytest.approx(1 - UNIFORM_MATCH if path in through else 0.0, abs=0.01), path
        assert found["cost"][carries] > 0.5
        assert found["cost"]["its values alone"] == pytest.approx(0.0, abs=1e-9)


def test_memories_that_were_written_are_recalled() -> None:
    recalled = ih.memory_recall(induction_model(), (1, INDUCTION), (0, PREVIOUS_TOKEN))
    assert recalled.to_series().to_dict() == {"position": 1.0, "key": 1.0, "output": 1.0}
    anti = ih.memory_recall(induction_model(), (1, ANTI_COPYING), (0, TWO_BEFORE))
    # the head looks two back, writes where the other does not read, and the other lowers the right logit
    assert anti.to_series().to_dict() == {
        "position": pytest.approx(0.0, abs=0.02),
        "key": pytest.approx(1 / 24),
        "output": pytest.approx(0.0, abs=0.05),
    }
    assert anti["chance"].to_numpy()[1:] == pytest.approx(1 / 24)
