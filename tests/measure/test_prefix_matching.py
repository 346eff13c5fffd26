import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.twins import patterns


def slow_score(model, tokens, *, offset: int = 0, n_prefix: int = 1, per_entry: bool = False) -> torch.Tensor:
    """The definition, position by position; local windows are not looked at."""
    per_example = []
    for ids, pattern in zip(tokens.tolist(), patterns(model, tokens), strict=True):
        queries = []
        for i in range(len(ids)):
            earlier = [
                p
                for p in range(i)
                if p + 1 >= n_prefix and ids[p + 1 - n_prefix : p + 1] == ids[i + 1 - n_prefix : i + 1]
            ]
            targets = [p + 1 + offset for p in earlier if 0 <= p + 1 + offset <= i]
            if targets:
                entries = [pattern[:, :, i, j] for j in targets]
                queries += entries if per_entry else [sum(entries)]
        if queries:
            per_example.append(sum(queries) / len(queries))
    return sum(per_example) / len(per_example)


@pytest.mark.parametrize("kind", ZOO)
def test_agrees_with_the_definition_on_any_model(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=4, length=24)
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens), slow_score(model, tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("offset", range(-2, 4))
@pytest.mark.parametrize("n_prefix", [1, 2, 3])
def test_offsets_and_longer_prefixes_agree_with_the_definition(offset: int, n_prefix: int) -> None:
    model = tiny_model("attention_only")
    tokens = torch.randint(0, 3, (3, 24), generator=torch.Generator().manual_seed(1))
    score = ih.prefix_matching_score(model, tokens, offset=offset, n_prefix=n_prefix)
    torch.testing.assert_close(score, slow_score(model, tokens, offset=offset, n_prefix=n_prefix), rtol=0, atol=1e-9)


def test_offset_scan_is_the_score_at_each_offset() -> None:
    model = tiny_model("rotary")
    tokens = random_tokens(model)
    scan = ih.prefix_matching_offset_scan(model, tokens, offsets=[-1, 0, 2])
    assert scan.shape == (3, 2, 4)
    for place, offset in enumerate([-1, 0, 2]):
        torch.testing.assert_close(scan[place], ih.prefix_matching_score(model, tokens, offset=offset))


def test_printed_reading_averages_entries_before_earlier_occurrences() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    printed = ih.prefix_matching_score(model, tokens, reading="printed")
    torch.testing.assert_close(printed, slow_score(model, tokens, offset=-2, per_entry=True), rtol=0, atol=1e-9)


def test_the_last_token_of_a_repeat_has_the_first_of_the_next_as_target() -> None:
    model = tiny_model("attention_only")
    tokens = torch.tensor([[1, 2, 1, 2]])
    pattern = patterns(model, tokens)[0]
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens), (pattern[:, :, 2, 1] + pattern[:, :, 3, 2]) / 2)


def test_the_present_token_can_be_its_own_target() -> None:
    model = tiny_model("attention_only")
    tokens = torch.tensor([[5, 5]])
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens), patterns(model, tokens)[0][:, :, 1, 1])


def test_examples_without_repeats_do_not_count() -> None:
    model = tiny_model("attention_only")
    tokens = torch.tensor([[1, 2, 1, 3], [4, 5, 6, 7]])
    torch.testing.assert_close(ih.prefix_matching_score(model, tokens), ih.prefix_matching_score(model, tokens[:1]))


def test_a_start_token_is_checked_and_changes_nothing() -> None:
    model = tiny_model("attention_only")
    tokens = ih.repeated_random_tokens(model, length=10, repeats=3, bos=0)
    with_start = ih.prefix_matching_score(model, tokens, has_bos=True)
    assert torch.equal(with_start, ih.prefix_matching_score(model, tokens))
    for wrong in ([[0, 1, 0, 1]], [[0, 1, 2, 1], [3, 1, 2, 1]]):
        with pytest.raises(ih.InputError, match="has_bos=True: expected one id in the first column"):
            ih.prefix_matching_score(model, torch.tensor(wrong), has_bos=True)


def test_windows_shorter_than_the_distance_to_every_target_give_nan() -> None:
    model = tiny_model("local")  # layer 1 sees 8 positions
    for period, reached in ((7, True), (8, True), (9, False)):
        tokens = ih.repeated_random_tokens(model, length=period, repeats=3)
        scores = ih.prefix_matching_score(model, tokens)
        assert bool(scores[1].isnan().any()) is not reached
        assert not scores[0].isnan().any()
        if reached:
            torch.testing.assert_close(scores, slow_score(model, tokens), rtol=0, atol=1e-9)


def test_a_scan_is_nan_where_no_query_has_a_target() -> None:
    model = tiny_model("attention_only")
    scan = ih.prefix_matching_offset_scan(model, torch.tensor([[1, 1]]), offsets=[0, 1])
    assert not scan[0].isnan().any()
    assert scan[1].isnan().all()


def test_half_precision_is_scored_in_float32() -> None:
    tokens = random_tokens(tiny_model("with_mlps"))
    half = ih.prefix_matching_score(tiny_model("with_mlps", dtype=torch.bfloat16), tokens)
    assert half.dtype == torch.float32
    full = ih.prefix_matching_score(tiny_model("with_mlps", dtype=torch.float32), tokens)
    torch.testing.assert_close(half, full, rtol=0, atol=0.02)


def test_bad_input_is_explained() -> None:
    model = tiny_model("attention_only")
    cases = [
        ("no token can be matched with an earlier one", torch.tensor([[1, 2, 3]]), {}),
        ("no token can be matched", torch.tensor([[1, 2, 1]]), {"offset": 5}),
        ("expected an integer tensor", torch.rand(2, 3), {}),
        ("expected at least 1 example of at least 2 tokens", torch.tensor([[1]]), {}),
        ("lies outside the vocabulary of 40", torch.tensor([[1, 40]]), {}),
        ("do not fit the model's context of 64", torch.zeros(1, 65, dtype=torch.long), {}),
        ("reading: expected one of induction, printed", torch.tensor([[1, 1]]), {"reading": "paper"}),
        ("n_prefix: expected an integer of at least 1", torch.tensor([[1, 1]]), {"n_prefix": 0}),
        ("batch_size: expected an integer of at least 1", torch.tensor([[1, 1]]), {"batch_size": 0}),
    ]
    for message, tokens, options in cases:
        with pytest.raises(ih.InputError, match=message):
            ih.prefix_matching_score(model, tokens, **options)
    with pytest.raises(ih.InputError, match="offsets: expected at least one"):
        ih.prefix_matching_offset_scan(model, torch.tensor([[1, 1]]), offsets=[])


def test_nan_weights_are_refused() -> None:
    model = tiny_model("attention_only")
    model.blocks[1].attn.W_Q.data[0, 0, 0] = torch.nan
    with pytest.raises(ih.InputError, match=r"blocks\.1\.attn\.W_Q hold NaN"):
        ih.prefix_matching_score(model, torch.tensor([[1, 1]]))


def test_attention_that_rounds_to_more_than_all_of_it_scores_one() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    reduction = ih.PrefixMatchingEvaluator(bos=None).reduction(model, tokens)
    n_queries = reduction.examples(torch.ones(len(tokens), 2, 4, 1)).reciprocal()[..., None]
    more_than_all = (n_queries * (1 + 1e-6)).float()
    assert bool((reduction.finish(more_than_all) == 1).all())
    assert bool((reduction.examples(more_than_all) == 1).all())


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ({"offset": 1}, "targets shifted by 1 positions"),
        ({"n_prefix": 2}, "earlier occurrences of the last 2 tokens"),
        ({"reading": "printed"}, "the tokens before earlier occurrences"),
    ],
)
def test_the_evaluator_has_the_variants_and_says_which_it_is(variant: dict, says: str) -> None:
    model = tiny_model("attention_only")
    evaluator = ih.PrefixMatchingEvaluator(length=8, **variant)
    scores = ih.score_heads(model, evaluators=[evaluator])
    expected = ih.prefix_matching_score(model, evaluator.tokens(model), **variant)
    torch.testing.assert_close(scores.to_tensor("prefix_matching"), expected)
    attributes = scores["prefix_matching"].attrs
    assert says in attributes["definition"]
    assert says not in ih.PrefixMatchingEvaluator().defined()
    assert {name: attributes[name] for name in variant} == variant
