"""The page on others' definitions says the numbers that are computed, and its claims about them hold."""

import pytest
import torch

import ih_lens as ih
from tests import differences, other_scores
from tests.differences import ALL_COPIES, BOS, LATEST, PAGE, TABLES, resting_model, written
from tests.helpers import random_tokens, tiny_model


def test_the_page_has_the_numbers_that_are_computed() -> None:
    page = PAGE.read_text(encoding="utf8")
    assert written(page) == page, "run python -m tests.differences"
    for name in TABLES:
        assert f"<!-- numbers: {name} -->" in page


def test_the_perfect_heads_are_what_the_page_says() -> None:
    model = resting_model()
    tokens = ih.repeated_random_tokens(model, length=25, repeats=4, n_examples=2, bos=BOS)
    pattern = other_scores.patterns(model, tokens)[1]
    query = 1 + 3 * 25 + 4  # in the fourth copy
    earlier = torch.tensor([query - 24, query - 49, query - 74])
    torch.testing.assert_close(pattern[:, LATEST, query, query - 24], torch.ones(2).double())
    torch.testing.assert_close(pattern[:, ALL_COPIES, query][:, earlier], torch.full((2, 3), 1 / 3).double())
    torch.testing.assert_close(pattern[:, [LATEST, ALL_COPIES], :26, 0], torch.ones(2, 2, 26).double())


def test_our_readings_are_the_sums_and_means_that_the_page_says() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    pattern = other_scores.patterns(model, tokens)
    ours = ih.prefix_matching_score(model, tokens, reading="printed", offset=2)
    per_example = []
    for example, ids in enumerate(tokens.tolist()):
        cells = [
            pattern[:, example, :, query, place + 1]
            for query in range(len(ids))
            for place in range(query)
            if ids[place] == ids[query]
        ]
        per_example.append(torch.stack(cells).mean(0))
    torch.testing.assert_close(ours, torch.stack(per_example).mean(0), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("length", "repeats"), [(50, 2), (25, 4)])
def test_detect_head_is_the_default_times_the_share_of_queries_with_a_target(length: int, repeats: int) -> None:
    model = resting_model()
    tokens = ih.repeated_random_tokens(model, length=length, repeats=repeats, n_examples=2, bos=BOS)
    ours = ih.prefix_matching_score(model, tokens, has_bos=True)
    share = (tokens.shape[1] - 1 - length) / tokens.shape[1]
    for layer, head in differences.HEADS.values():
        theirs = other_scores.detect_head(other_scores.patterns(model, tokens)[layer][:, head], tokens)
        assert theirs == pytest.approx(share * float(ours[layer, head]), abs=1e-6)


def test_an_offset_of_minus_one_finds_attention_to_the_same_token() -> None:
    model = resting_model()
    tokens = ih.repeated_random_tokens(model, length=25, repeats=4, n_examples=2, bos=BOS)
    score = ih.prefix_matching_score(model, tokens, has_bos=True, offset=-1)
    assert score[differences.HEADS["same token"]] > 0.6 > 0.1 > score[1, LATEST]


def test_an_indifferent_head_has_the_copying_score_that_the_page_says() -> None:
    model = tiny_model("no_norm", d_vocab=64, initializer_range=0.3)
    scores = ih.copying_score(model, ih.random_tokens(model, length=25, n_examples=20))
    assert float(scores.mean()) == pytest.approx(4 / 26 - 1, abs=0.1)


def test_composition_scores_of_transformer_lens_are_ours_where_no_norm_is_folded() -> None:
    model = tiny_model("no_norm")
    theirs = model.all_composition_scores("K")  # [earlier layer, earlier head, layer, head]
    ours = torch.from_numpy(ih.composition_scores(model, "k").to_numpy())
    torch.testing.assert_close(ours[1, :, 0], theirs[0, :, 1].T, rtol=0, atol=1e-9)
    assert theirs[0, :, 1].min() > 0.1, "heads of random weights do not score 0"
