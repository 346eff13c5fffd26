"""Every kind of induction on heads of which it is known what they do."""

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.oracles.kinds_of_induction import (
    ANTI_COPYING,
    ANTI_INDUCTION,
    BOS,
    D_VOCAB,
    DUPLICATE,
    EARLIEST_DUPLICATE,
    ENTITY_END,
    FARTHEST,
    FOUR,
    FUZZY,
    INDUCTION,
    NEAREST,
    PROMOTER,
    SUPPRESSOR,
    THREE,
    TWO,
    model_of_all_kinds,
    model_that_counts_back,
    tokenizer_of_words,
)

LOWEST, MIDDLE, TOP = range(3)
close = pytest.approx


@pytest.fixture(scope="module")
def model():
    built = model_of_all_kinds()
    built.tokenizer = tokenizer_of_words()
    return built


@pytest.fixture(scope="module")
def kinds(model) -> ih.HeadScores:
    return ih.induction_kinds(model, length=12)


def of(kinds: ih.HeadScores, name: str, layer: int, head: int) -> float:
    return float(kinds[name].sel(layer=layer, head=head))


def test_duplicate_token_heads(kinds) -> None:
    assert of(kinds, "duplicate_token", LOWEST, EARLIEST_DUPLICATE) == close(1.0)
    # repeats 2, 3 and 4 have 1, 2 and 3 earlier occurrences beside the token itself
    assert of(kinds, "duplicate_token", LOWEST, DUPLICATE) == close((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert of(kinds, "best_offset", LOWEST, EARLIEST_DUPLICATE) == -1
    assert of(kinds, "duplicate_token", MIDDLE, INDUCTION) == close(0.0, abs=1e-6)


def test_left_and_right_neighbours(kinds) -> None:
    assert of(kinds, "anti_induction", MIDDLE, ANTI_INDUCTION) == close(1.0)
    assert of(kinds, "anti_induction", MIDDLE, INDUCTION) == close(-1.0)
    assert of(kinds, "best_offset", MIDDLE, ANTI_INDUCTION) == -2
    assert of(kinds, "best_offset", MIDDLE, ENTITY_END) == 1
    assert of(kinds, "best_offset_attention", MIDDLE, ENTITY_END) == close(1.0)
    assert of(kinds, "prefix_matching", MIDDLE, ENTITY_END) == close(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("two_token_prefix", {INDUCTION: 0.0, TWO: 1.0, THREE: 1.0, FOUR: 1.0}),
        ("three_token_prefix", {INDUCTION: 0.0, TWO: 1 / 2, THREE: 1.0, FOUR: 1.0}),
        ("four_token_prefix", {INDUCTION: 0.0, TWO: 1 / 3, THREE: 1 / 2, FOUR: 1.0}),
    ],
)
def test_how_long_a_prefix_each_head_matches(kinds, name: str, scores: dict[int, float]) -> None:
    for head, score in scores.items():
        assert of(kinds, name, MIDDLE, head) == close(score, abs=1e-6)


def test_which_copy(kinds, model) -> None:
    assert of(kinds, "nearest_copy", MIDDLE, NEAREST) == close(1.0, abs=1e-6)
    assert of(kinds, "farthest_copy", MIDDLE, FARTHEST) == close(1.0, abs=1e-6)
    assert of(kinds, "nearest_copy", MIDDLE, INDUCTION) == close(0.0, abs=1e-6)
    tokens = ih.repeated_random_tokens(model, length=12, repeats=4)
    profile = ih.attention_by_copy(model, tokens, n_copies=3)[:, MIDDLE]
    for head, expected in ((NEAREST, [1, 0, 0]), (FARTHEST, [0, 0, 1]), (INDUCTION, [1 / 3] * 3)):
        np.testing.assert_allclose(profile[:, head], expected, atol=1e-6)


def test_tokens_against_entities(kinds) -> None:
    assert of(kinds, "token_induction", MIDDLE, INDUCTION) == close(1.0)
    assert of(kinds, "concept_induction", MIDDLE, INDUCTION) == close(0.0, abs=1e-6)
    assert of(kinds, "token_induction", MIDDLE, ENTITY_END) == close(0.0, abs=1e-6)
    assert of(kinds, "concept_induction", MIDDLE, ENTITY_END) == close(1.0)


def test_words_in_other_forms(kinds) -> None:
    assert of(kinds, "fuzzy_match", TOP, FUZZY) == close(1.0)
    assert of(kinds, "fuzzy_match", MIDDLE, INDUCTION) == close(0.0, abs=1e-6)


def test_heads_that_lower_what_is_predicted(kinds, model) -> None:
    # in the first copy nothing is known, and the start token is what is "predicted" and looked at
    for head in (SUPPRESSOR, PROMOTER):
        assert of(kinds, "attention_to_predicted", TOP, head) == close(1.0)
    assert of(kinds, "copy_suppression", TOP, SUPPRESSOR) == close(1 - 1 / D_VOCAB)
    assert of(kinds, "copy_suppression", TOP, PROMOTER) == close(-1 + 1 / D_VOCAB)
    assert of(kinds, "ov_suppression", TOP, SUPPRESSOR) == 1.0
    assert of(kinds, "ov_suppression", TOP, PROMOTER) == 0.0


def test_an_anti_copying_head_is_told_from_an_induction_head(kinds) -> None:
    types = ih.head_types(kinds)
    assert types.sel(layer=TOP, head=ANTI_COPYING) == "anti_copying_prefix_matching"
    assert types.sel(layer=MIDDLE, head=INDUCTION) == "induction"


def test_true_induction_heads_are_called_so(model) -> None:
    verdict = ih.induction_verdict(model)
    assert verdict.is_induction_model
    assert (MIDDLE, INDUCTION) in verdict.heads
    assert (MIDDLE, NEAREST) in verdict.heads
    for layer, head in ((MIDDLE, ENTITY_END), (MIDDLE, ANTI_INDUCTION), (LOWEST, DUPLICATE)):
        assert verdict.kind.sel(layer=layer, head=head) == "other"
    assert verdict.minimum.sel(layer=MIDDLE, head=INDUCTION) == close(1.0)
    assert verdict.spread.sel(layer=MIDDLE, head=INDUCTION) == close(0.0, abs=1e-6)


@pytest.mark.parametrize("distance", [7, 18, 33])
def test_counting_back_is_no_induction(distance: int) -> None:
    """The hard negative: perfect on its own period, by position; also where that period is not one of those drawn."""
    model = model_that_counts_back(distance)
    period = distance + 1
    tokens = ih.repeated_random_tokens(model, length=period, repeats=2, bos=BOS)
    assert ih.prefix_matching_score(model, tokens)[0, 0] == close(1.0), "the paper's score on its period is perfect"
    loss = model(tokens, return_type="loss", loss_per_token=True)
    assert loss[:, period + 1 :].max() < 0.02, "and so is its prediction"
    verdict = ih.induction_verdict(model, bos=BOS)
    assert not verdict.is_induction_model
    assert verdict.positional_heads == [(0, 0)]
    assert verdict.repeated.value.sel(period=period, layer=0, head=0) == close(1.0)
    assert str(verdict).endswith(f"L0H0 (period {period}) matches by position, at fixed distances only")


def test_the_ids_are_as_the_models_expect() -> None:
    assert tokenizer_of_words().bos_token_id == BOS
    words = ih.words_in_other_forms(_with_words(), n_words=13, n_examples=4)
    first, second = words[:, 1:14] // 3, words[:, 14:] // 3
    assert torch.equal(first.sort().values, second.sort().values)
    assert len(words.unique()) > 30
    assert all(len(set(row)) == 27 for row in words.tolist()), "each form once"


def _with_words():
    model = model_that_counts_back(7)
    model.tokenizer = tokenizer_of_words()
    return model
