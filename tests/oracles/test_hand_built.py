"""Every measure on models of which it is known what each head does."""

import pytest
import torch

import ih_lens as ih
from tests.oracles.hand_built import (
    ANTI_COPYING,
    DUPLICATE_TOKEN,
    INDUCTION,
    OFFSET_INDUCTION,
    PREVIOUS_TOKEN,
    SHARPNESS,
    START_TOKEN,
    TWO_BEFORE,
    UNIFORM,
    induction_model,
    smeared_induction_model,
)

BOS = 23


@pytest.fixture(scope="module", params=[None, BOS], ids=["no start token", "start token"])
def tokens(request: pytest.FixtureRequest) -> torch.Tensor:
    return ih.repeated_random_tokens(induction_model(), length=12, repeats=4, bos=request.param)


def test_induction_heads_match_prefixes_perfectly_and_others_do_not(tokens: torch.Tensor) -> None:
    scores = ih.prefix_matching_score(induction_model(), tokens)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    expected[1, INDUCTION] = expected[1, ANTI_COPYING] = 1.0
    first_query = tokens.shape[1] - 36
    seen = [(query - first_query + 12) // 12 / (query + 1) for query in range(first_query, tokens.shape[1])]
    expected[1, UNIFORM] = sum(seen) / len(seen)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_offset_scan_finds_where_each_head_looks(tokens: torch.Tensor) -> None:
    scan = ih.prefix_matching_offset_scan(induction_model(), tokens)
    of_offset = dict(zip(range(-2, 4), scan, strict=True))
    for offset in range(-2, 4):
        torch.testing.assert_close(of_offset[offset][1, INDUCTION].item(), float(offset == 0))
        torch.testing.assert_close(of_offset[offset][1, OFFSET_INDUCTION].item(), float(offset == 1))
    # repeats 2, 3 and 4 have 1, 2 and 3 earlier occurrences beside the token itself
    torch.testing.assert_close(of_offset[-1][0, DUPLICATE_TOKEN].item(), (1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_copying_tells_copying_from_anti_copying() -> None:
    scores = ih.copying_score(induction_model(), ih.random_tokens(induction_model(), length=20))
    torch.testing.assert_close(scores[1], torch.tensor([1.0, -1.0, 1.0, 1.0]).double())
    assert scores[0].isnan().all(), "heads that write nothing the unembedding reads raise no logit"


def test_previous_token_score_finds_the_previous_token_head(tokens: torch.Tensor) -> None:
    scores = ih.previous_token_score(induction_model(), tokens)
    n = tokens.shape[1]
    torch.testing.assert_close(scores[0, PREVIOUS_TOKEN].item(), 1.0)
    torch.testing.assert_close(scores[0, START_TOKEN].item(), 1 / (n - 1))
    torch.testing.assert_close(scores[0, TWO_BEFORE].item(), 0.5 / (n - 1))
    torch.testing.assert_close(scores[1, UNIFORM].item(), sum(1 / (i + 1) for i in range(1, n)) / (n - 1))


def test_eigenvalues_of_written_circuits() -> None:
    scores = ih.ov_copying_eigenvalue_score(induction_model())
    torch.testing.assert_close(scores[1], torch.tensor([1.0, -1.0, 1.0, 1.0]).double())
    assert scores[0].isnan().all()


def test_trace_reads_only_previous_token_heads() -> None:
    previous = torch.tensor([[0.75, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    trace = ih.qk_eigenvalue_trace(induction_model(d_vocab=24), previous)
    assert trace[0].isnan().all()
    expected = torch.tensor([0.75, 0.75, 0.5, 0.0]).double() * 24 * SHARPNESS
    torch.testing.assert_close(trace[1], expected)


def test_attribution_is_where_the_induction_head_looks() -> None:
    model = induction_model(d_vocab=24)
    tokens = ih.repeated_random_tokens(model, length=10, repeats=2, n_examples=2)
    attribution = ih.logit_attribution(model, tokens)[:, 1, INDUCTION]
    expected = torch.zeros_like(attribution)
    for destination in range(10, 19):
        expected[:, destination, destination - 9] = 1 - 1 / 24
    torch.testing.assert_close(attribution[:, 10:], expected[:, 10:], rtol=0, atol=1e-12)


def test_one_smeared_layer_can_do_induction() -> None:
    model = smeared_induction_model()
    tokens = ih.repeated_random_tokens(model, length=12, bos=BOS)
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens)[0, 0].item(), 1.0)
    model.blocks[0].attn.alpha.data[0] = 50.0  # the key's own share is 1: a plain duplicate-token head
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens)[0, 0].item(), 0.0)


def test_score_heads_of_the_induction_model() -> None:
    scores = ih.score_heads(induction_model(), length=12)
    assert scores.top("prefix_matching", 2) == [
        ((1, INDUCTION), pytest.approx(1.0)),
        ((1, ANTI_COPYING), pytest.approx(1.0)),
    ]
    assert scores.top("previous_token", 1) == [((0, PREVIOUS_TOKEN), pytest.approx(1.0))]
    assert scores.head("L1H0")["copying"] == pytest.approx(1.0)
