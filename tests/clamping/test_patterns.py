import pytest
import torch

import ih_lens as ih
from tests.clamping.twins import induction_pattern, pattern_under, scores_of
from tests.helpers import random_tokens, tiny_model

KINDS = ("attention_only", "smeared", "rms_grouped", "local")


def _tokens(model, n_symbols: int = 5, length: int = 14):
    """Few symbols, so that there are many repeats."""
    return random_tokens(model, 3, length) % n_symbols


def _natural(model, tokens):
    return scores_of(model, tokens).softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_previous_token_is_the_diagonal_below(kind: str) -> None:
    model = tiny_model(kind)
    tokens = _tokens(model)
    pattern = pattern_under(model, [ih.PreviousToken(["L0H1", "L0H3"], rows="odd")], tokens)
    natural = _natural(model, tokens)
    for query in range(tokens.shape[1]):
        expected = torch.zeros_like(natural[:, 0, query])
        expected[:, query - 1] = 1
        for head in range(4):
            clamped = head in (1, 3) and query % 2 == 1
            torch.testing.assert_close(pattern[:, head, query], expected if clamped else natural[:, head, query])
    first = pattern_under(model, [ih.PreviousToken("L0H0")], tokens)[:, 0, 0]
    assert (first == torch.eye(tokens.shape[1], dtype=torch.float64)[0]).all()


@pytest.mark.parametrize("ties", ["uniform", "latest", "earliest"])
@pytest.mark.parametrize(("offset", "n_prefix"), [(0, 1), (1, 1), (-1, 1), (0, 2), (0, 3), (-2, 2)])
def test_induction_targets_follow_earlier_occurrences(ties: str, offset: int, n_prefix: int) -> None:
    model = tiny_model("attention_only")
    tokens = _tokens(model, 3)
    clamp = ih.InductionTarget("L0H2", ties=ties, offset=offset, n_prefix=n_prefix)
    pattern = pattern_under(model, [clamp], tokens)
    expected = induction_pattern(_natural(model, tokens)[:, 2], tokens, ties, offset, n_prefix)
    torch.testing.assert_close(pattern[:, 2], expected, rtol=0, atol=1e-12)


def test_labels_of_the_querys_class_get_their_share() -> None:
    model = tiny_model("attention_only")
    tokens = torch.tensor([[10, 0, 11, 1, 10], [10, 0, 11, 1, 12], [13, 2, 14, 3, 11]])
    pattern = pattern_under(model, [ih.LabelMatch("L0H0", correct=0.8)], tokens)[:, 0]
    natural = _natural(model, tokens)[:, 0]
    torch.testing.assert_close(pattern[0, 4], torch.tensor([0, 0.8, 0, 0.2, 0], dtype=torch.float64))
    torch.testing.assert_close(pattern[1:], natural[1:])  # their queries occur nowhere else
    torch.testing.assert_close(pattern[0, :4], natural[0, :4])
    classes = [0] * 40
    classes[11], classes[12], classes[13], classes[14] = 1, 1, 2, 1
    pattern = pattern_under(model, [ih.LabelMatch("L0H0", classes=tuple(classes))], tokens)[:, 0]
    torch.testing.assert_close(pattern[1, 4], torch.tensor([0, 0, 0, 1.0, 0], dtype=torch.float64))
    torch.testing.assert_close(pattern[2, 4], torch.tensor([0, 0, 0, 1.0, 0], dtype=torch.float64))
    with (
        pytest.raises(ih.InputError, match="classes: 3 were given"),
        ih.clamp(model, ih.LabelMatch("L0H0", classes=(0, 1, 2))),
    ):
        model(tokens)


def test_similar_inputs_are_matched() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model, 3, 10)
    inputs = torch.nn.functional.normalize(model.W_E[tokens], dim=-1)
    similarity = inputs @ inputs.mT
    natural = _natural(model, tokens)[:, 1]
    for temperature in (0.0, 0.3):
        pattern = pattern_under(model, [ih.InputMatch("L0H1", temperature=temperature)], tokens)[:, 1]
        torch.testing.assert_close(pattern[:, 0], natural[:, 0])
        for query in range(1, 10):
            past = similarity[:, query, :query]
            expected = torch.zeros(3, 10, dtype=torch.float64)
            if temperature:
                expected[:, 1 : query + 1] = (past / temperature).softmax(-1)
            else:
                expected[torch.arange(3), past.argmax(-1) + 1] = 1
            torch.testing.assert_close(pattern[:, query], expected)


@pytest.mark.parametrize("keys", ["previous", "self", "start", "induction", (1, 3)])
@pytest.mark.parametrize("kind", ["forbid", "allow"])
def test_forbidding_is_a_softmax_without_these_keys(kind: str, keys) -> None:
    model = tiny_model("attention_only")
    tokens = _tokens(model)
    clamp = ih.Forbid("L0H1", keys=keys) if kind == "forbid" else ih.Allow("L0H1", keys=keys)
    pattern = pattern_under(model, [clamp], tokens)[:, 1]
    scores = scores_of(model, tokens)[:, 1]
    n_pos = tokens.shape[1]
    marked = torch.zeros(3, n_pos, n_pos, dtype=torch.bool)
    for query in range(n_pos):
        distances = {"previous": [1], "self": [0], "start": [query]}.get(keys, keys)
        if keys == "induction":
            natural = scores.softmax(-1)
            marked[:, query] = (induction_pattern(natural, tokens) != natural)[:, query] & (
                induction_pattern(natural, tokens)[:, query] > 0
            )
        else:
            for back in distances:
                if back <= query:
                    marked[:, query, query - back] = True
    kept = ~marked if kind == "forbid" else marked
    masked = scores.masked_fill(~kept, -torch.inf)
    some = (kept & (scores > -torch.inf)).any(-1, keepdim=True)
    expected = torch.where(some, torch.where(some, masked, scores).softmax(-1), scores.softmax(-1))
    torch.testing.assert_close(pattern, expected, rtol=0, atol=1e-12)
    weights = torch.randn(pattern.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for parameter in (model.blocks[0].attn.W_Q, model.blocks[0].attn.W_K):
        (ours,) = torch.autograd.grad((pattern * weights).sum(), parameter, retain_graph=True)
        (twin,) = torch.autograd.grad((expected * weights).sum(), parameter, retain_graph=True)
        torch.testing.assert_close(ours, twin, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_scales_scores(temperature: float) -> None:
    model = tiny_model("local")
    tokens = _tokens(model)
    pattern = pattern_under(model, [ih.Temperature("L1H2", temperature=temperature)], tokens, layer=1)[:, 2]
    expected = (scores_of(model, tokens, 1)[:, 2] / temperature).softmax(-1)
    torch.testing.assert_close(pattern, expected, rtol=0, atol=1e-9)
    weights = torch.randn(pattern.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (ours,) = torch.autograd.grad((pattern * weights).sum(), model.blocks[1].attn.W_Q)
    (twin,) = torch.autograd.grad((expected * weights).sum(), model.blocks[1].attn.W_Q)
    torch.testing.assert_close(ours, twin, rtol=0, atol=1e-6)


def test_strength_mixes_with_the_natural_pattern() -> None:
    model = tiny_model("attention_only")
    tokens = _tokens(model)
    natural, full = _natural(model, tokens), pattern_under(model, [ih.PreviousToken("L0H1")], tokens)
    mixed = pattern_under(model, [ih.PreviousToken("L0H1", strength=0.25)], tokens)
    torch.testing.assert_close(mixed, 0.75 * natural + 0.25 * full)


def test_copying_leaves_out_tokens_that_are_never_predicted() -> None:
    cfg = ih.attention_only(1, d_model=16, n_heads=2, d_vocab=12, d_vocab_out=4, n_ctx=6)
    model = ih.build_model(cfg, seed=0)
    tokens = torch.tensor([[2, 11, 3, 2, 10, 9]])
    _, cache = model.run_with_cache(tokens)
    with ih.clamp(model, ih.IdealCopyLogits("L0H1")):
        probabilities = model(tokens).softmax(-1)[0, -1]
    pattern = cache["blocks.0.attn.hook_pattern"][0, 1, -1]
    share = (pattern[0] + pattern[3]) / (pattern[0] + pattern[2] + pattern[3])
    torch.testing.assert_close(probabilities, torch.tensor([0, 0, share, 1 - share]), atol=1e-5, rtol=0)
