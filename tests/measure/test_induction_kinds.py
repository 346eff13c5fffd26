"""Every kind of induction against its definition, position by position."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model
from tests.measure.twins import direct_logits, patterns, processed, unbiased_values
from tests.models.bridges import tiny_bridge
from tests.oracles.kinds_of_induction import tokenizer_of_words

Score = Callable[[list[int], int, torch.Tensor], torch.Tensor | None]


def mean_over_queries(model, tokens, score: Score) -> torch.Tensor:
    """[layer, head]: what each query gives, from its attention [layer, head, key]; None where it does not count."""
    per_example = []
    for ids, pattern in zip(tokens.tolist(), patterns(model, tokens), strict=True):
        found = [score(ids, i, pattern[:, :, i]) for i in range(len(ids))]
        queries = [of_query for of_query in found if of_query is not None]
        if queries:
            per_example.append(sum(queries) / len(queries))
    return sum(per_example) / len(per_example)


def occurrences(ids: list[int], i: int) -> list[int]:
    return [p for p in range(i) if ids[p] == ids[i]]


def duplicate_token(ids, i, attention):
    earlier = occurrences(ids, i)
    return attention[..., earlier].sum(-1) if earlier else None


def anti_induction(ids, i, attention):
    left, right = [p - 1 for p in occurrences(ids, i) if p > 0], [p + 1 for p in occurrences(ids, i)]
    return attention[..., left].sum(-1) - attention[..., right].sum(-1) if left and right else None


def nearest_copy(ids, i, attention):
    *others, latest = [p + 1 for p in occurrences(ids, i)] or [None]
    return attention[..., latest] - attention[..., others].mean(-1) if others else None


def farthest_copy(ids, i, attention):
    earliest, *others = [p + 1 for p in occurrences(ids, i)] or [None]
    return attention[..., earliest] - attention[..., others].mean(-1) if others else None


def longer_prefix(n: int) -> Score:
    def score(ids, i, attention):
        full = [p + 1 for p in range(n - 1, i) if i >= n - 1 and ids[p + 1 - n : p + 1] == ids[i + 1 - n : i + 1]]
        last_only = [p + 1 for p in occurrences(ids, i) if p == 0 or i == 0 or ids[p - 1] != ids[i - 1]]
        return attention[..., full].sum(-1) - attention[..., last_only].sum(-1) if full and last_only else None

    return score


TWINS: dict[str, Score] = {
    "duplicate_token": duplicate_token,
    "anti_induction": anti_induction,
    "nearest_copy": nearest_copy,
    "farthest_copy": farthest_copy,
    "two_token_prefix": longer_prefix(2),
    "three_token_prefix": longer_prefix(3),
    "four_token_prefix": longer_prefix(4),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("kind", ["attention_only", "rotary", "rms_grouped"])
def test_agrees_with_the_definition(name: str, kind: str) -> None:
    model = tiny_model(kind)
    evaluator = ih.INDUCTION_KINDS[name].fitted(model)
    for tokens in (
        evaluator.tokens(model, seed=3),
        torch.randint(0, 3, (3, 24), generator=torch.Generator().manual_seed(1)),
    ):
        expected = mean_over_queries(model, tokens, TWINS[name])
        torch.testing.assert_close(evaluator.score(model, tokens), expected, rtol=0, atol=1e-7)


def test_examples_tell_their_own_scores() -> None:
    model = tiny_model("attention_only")
    scores = ih.induction_kinds(model, n_examples=4)
    for name, twin in TWINS.items():
        tokens = ih.INDUCTION_KINDS[name].configured(n_examples=4).fitted(model).tokens(model)
        kept = scores.estimate(name).examples
        for example in range(4):
            expected = mean_over_queries(model, tokens[example : example + 1], twin)
            np.testing.assert_allclose(kept.isel(example=example), expected, atol=1e-6, err_msg=name)


def test_the_best_offset_is_the_one_of_the_scan() -> None:
    model = tiny_model("with_mlps")
    offset, attention = ih.INDUCTION_KINDS["best_offset"], ih.INDUCTION_KINDS["best_offset_attention"]
    tokens = offset.fitted(model).tokens(model)
    scan = ih.prefix_matching_offset_scan(model, tokens)
    torch.testing.assert_close(attention.score(model, tokens), scan.amax(dim=0))
    torch.testing.assert_close(offset.score(model, tokens), scan.argmax(dim=0).double() - 2)
    scores = ih.induction_kinds(model)
    kept = scores.estimate("best_offset_attention").examples
    np.testing.assert_allclose(kept.mean("example"), scores["best_offset_attention"], atol=1e-7)


def test_attention_by_copy_is_that_to_each_target() -> None:
    model = tiny_model("attention_only")
    tokens = ih.repeated_random_tokens(model, length=10, repeats=4, n_examples=3)
    profile = ih.attention_by_copy(model, tokens, n_copies=3)
    for copy in range(3):

        def target(ids, i, attention, copy=copy):
            earlier = occurrences(ids, i)[::-1]
            return attention[..., earlier[copy] + 1] if len(earlier) == 3 else None

        torch.testing.assert_close(profile[copy], mean_over_queries(model, tokens, target), rtol=0, atol=1e-7)
    with pytest.raises(ih.InputError, match="tokens must occur at least 5 times"):
        ih.attention_by_copy(model, tokens, n_copies=4)


def test_attention_by_distance_is_the_mean_along_diagonals() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model, length=12)
    pattern = patterns(model, tokens)
    by_distance = ih.attention_by_distance(model, tokens)
    for distance in range(12):
        expected = torch.stack([pattern[..., i, i - distance] for i in range(distance, 12)]).mean(dim=(0, 1))
        torch.testing.assert_close(by_distance[distance], expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(by_distance[1], ih.previous_token_score(model, tokens))


@pytest.mark.parametrize(("name", "place"), [("token_induction", 1), ("concept_induction", 2)])
@pytest.mark.parametrize("kind", ["with_mlps", "rms_grouped"])
def test_entities_agree_with_the_definition(name: str, place: int, kind: str) -> None:
    model = tiny_model(kind)
    evaluator = ih.INDUCTION_KINDS[name].fitted(model)
    tokens = evaluator.tokens(model)
    pattern, values = patterns(model, tokens), unbiased_values(model, tokens)
    n, per_example = evaluator.n_entities, []
    for example, ids in enumerate(tokens.tolist()):
        shares = []
        for start in range(4 * n, 8 * n, 4):
            read = pattern[example, :, :, start] * values[example].norm(dim=-1)
            shares.append(read[..., ids.index(ids[start]) + place] / read.sum(-1))
        per_example.append(sum(shares) / n)
    torch.testing.assert_close(evaluator.score(model, tokens), sum(per_example) / len(tokens), rtol=0, atol=1e-7)
    with pytest.raises(ih.InputError, match="expected two lists of"):
        evaluator.score(model, tokens[:, :-1])


def test_fuzzy_matches_agree_with_the_definition() -> None:
    model = tiny_model("with_mlps")
    model.tokenizer = tokenizer_of_words()
    evaluator = ih.INDUCTION_KINDS["fuzzy_match"].fitted(model)
    tokens = evaluator.tokens(model)

    def fuzzy(ids, i, attention):
        words = [token // 3 if token < 39 else -1 for token in ids]
        followed = {p + 1 for j in range(len(ids)) for p in range(j) if words[p] == words[j] and ids[p] != ids[j]}
        target = [p + 1 for p in range(i) if words[p] == words[i] and ids[p] != ids[i]]
        others = [place for place in followed if place <= i and place not in target]
        return attention[..., target].sum(-1) - attention[..., others].mean(-1) if target and others else None

    torch.testing.assert_close(
        evaluator.score(model, tokens), mean_over_queries(model, tokens, fuzzy), rtol=0, atol=1e-7
    )


def test_without_a_tokenizer_words_are_not_defined_and_it_is_said() -> None:
    scores = ih.induction_kinds(tiny_model("attention_only"))
    assert scores["fuzzy_match"].isnull().all()
    assert "need a tokenizer" in scores["fuzzy_match"].attrs["undefined"]
    with pytest.raises(ih.CapabilityError, match="need a tokenizer"):
        ih.words_in_other_forms(tiny_model("attention_only"))


def test_the_papers_scores_are_what_they_were() -> None:
    model = tiny_model("with_mlps")
    kinds, papers = ih.induction_kinds(model, seed=2), ih.score_heads(model, seed=2)
    for name in papers.names:
        assert kinds[name].identical(papers[name]), name
    assert set(kinds.names) == {
        *papers.names,
        *ih.INDUCTION_KINDS,
        "attention_to_predicted",
        "copy_suppression",
        "ov_suppression",
    }
    assert not set(papers.names) & set(ih.INDUCTION_KINDS), "the default table stays the paper's"


def test_a_table_survives_its_file(tmp_path) -> None:
    kinds = ih.induction_kinds(tiny_model("attention_only"), n_examples=3)
    again = ih.HeadScores.load(kinds.save(tmp_path / "kinds.json"))
    assert again.dataset.identical(kinds.dataset)
    np.testing.assert_array_equal(again.stderr("duplicate_token"), kinds.stderr("duplicate_token"))


def test_copy_suppression_is_missing_with_a_reason_where_logits_are_no_sum() -> None:
    model = tiny_model("with_mlps", output_logits_soft_cap=5.0)
    kinds = ih.induction_kinds(model)
    assert kinds["copy_suppression"].isnull().all()
    assert "caps its logits" in kinds["copy_suppression"].attrs["undefined"]
    assert kinds["duplicate_token"].notnull().all()


def slow_suppression(model, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """[layer, head] twice: the definition, query by query, with TransformerLens's own final norm and unembedding."""
    _, cache = model.run_with_cache(tokens)
    values = unbiased_values(model, tokens)
    values = values.repeat_interleave(model.cfg.n_heads // values.shape[2], dim=2)  # shared by heads
    attended, effects = [], []
    for layer, block in enumerate(model.blocks):
        normalize = getattr(model, "ln_final", torch.nn.Identity())
        predicted = model.unembed(normalize(cache["resid_pre", layer])).argmax(dim=-1)
        logits = direct_logits(model, torch.einsum("bhpk,hkm->bhpm", values[:, layer], block.attn.W_O))
        of_examples = []
        for example, ids in enumerate(tokens.tolist()):
            queries = []
            for i, token in enumerate(predicted[example].tolist()):
                places = [j for j in range(i) if ids[j] == token]
                if places and token != ids[i]:
                    weights = cache["pattern", layer][example, :, i, places]
                    scale = 1.0 if model.cfg.normalization_type is None else cache["ln_final.hook_scale"][example, i, 0]
                    effect = (weights * logits[example][:, places, token]).sum(-1) / scale
                    queries.append(torch.stack([weights.sum(-1), effect]))
            if queries:
                of_examples.append(sum(queries) / len(queries))
        mean = sum(of_examples) / len(of_examples) if of_examples else torch.full((2, 4), torch.nan)
        attended.append(mean[0])
        effects.append(-mean[1])
    return torch.stack(attended).detach(), torch.stack(effects).detach()


@pytest.mark.parametrize("kind", ["with_mlps", "no_norm", "rms_grouped", "rotary"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_copy_suppression_agrees_with_the_definition(kind: str, batch_size: int | None) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=5, length=40)
    scores = ih.copy_suppression(model, tokens, batch_size=batch_size)
    attention, suppression = slow_suppression(model, tokens)
    torch.testing.assert_close(scores.to_tensor("attention_to_predicted"), attention, rtol=0, atol=1e-7)
    torch.testing.assert_close(scores.to_tensor("copy_suppression"), suppression, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["with_mlps", "rms_grouped"])
def test_ranks_of_the_ov_circuit_agree_with_the_definition(kind: str) -> None:
    model = tiny_model(kind)
    weights = ih.effective_weights(model)
    scores = ih.copy_suppression(model, random_tokens(model, length=40)).to_tensor("ov_suppression")
    for layer in range(2):
        for head in range(4):
            logits = weights.W_E @ weights.W_V[layer, head] @ weights.W_O[layer, head] @ weights.W_U
            lowest = [int(row.argmin()) == token for token, row in enumerate(logits)]  # 1 % of 40, at least one
            torch.testing.assert_close(scores[layer, head].item(), sum(lowest) / 40)


def test_layers_before_which_nothing_is_predicted_say_so() -> None:
    model = tiny_model("no_norm")
    model.unembed.W_U.data.zero_()
    model.unembed.b_U.data[39] = 50.0  # always the same token, which does not occur
    scores = ih.copy_suppression(model, ih.repeated_random_tokens(model, length=10, bos=39)[:, 1:])
    assert scores["copy_suppression"].isnull().all()
    assert scores["copy_suppression"].attrs["undefined"].startswith("layer 0, 1: no token of the context is predicted")


def test_copy_suppression_leaves_the_model_as_it_is_and_does_not_depend_on_its_processing() -> None:
    model = tiny_model("with_mlps").train()
    tokens = random_tokens(model, n_examples=5, length=40)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scores = ih.copy_suppression(model, tokens)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    folded = processed(model, fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True)
    others = ih.copy_suppression(folded, tokens)
    for name in scores.names:
        np.testing.assert_allclose(others[name], scores[name], atol=1e-5, err_msg=name)


def test_copy_suppression_in_half_precision() -> None:
    tokens = random_tokens(tiny_model("no_norm"), n_examples=8, length=40)
    half, full = (
        ih.copy_suppression(tiny_model("no_norm", dtype=dtype), tokens) for dtype in (torch.bfloat16, torch.float32)
    )
    np.testing.assert_allclose(half["attention_to_predicted"], full["attention_to_predicted"], atol=0.05)
    assert half["copy_suppression"].dtype == np.float32


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neo"])
def test_bridges_have_all_kinds(architecture: str, tmp_path: Path) -> None:
    model = tiny_bridge(architecture, tmp_path)
    kinds = ih.induction_kinds(model, n_examples=3, length=5)
    for name in ("duplicate_token", "two_token_prefix", "token_induction", "ov_suppression"):
        assert kinds[name].notnull().all(), name
    tokens = torch.randint(0, 12, (4, 40), generator=torch.Generator().manual_seed(0))
    attention, suppression = slow_suppression(model, tokens)
    scores = ih.copy_suppression(model, tokens)
    assert scores["copy_suppression"].notnull().any()
    for name, expected in (("attention_to_predicted", attention), ("copy_suppression", suppression)):
        torch.testing.assert_close(scores.to_tensor(name), expected, rtol=0, atol=1e-5, equal_nan=True)


def test_another_output_vocabulary_has_no_copy_suppression() -> None:
    kinds = ih.induction_kinds(tiny_model("with_mlps", d_vocab_out=12), n_examples=3)
    for name in ("attention_to_predicted", "copy_suppression", "ov_suppression"):
        assert kinds[name].isnull().all()
        assert "40 input and 12 output tokens" in kinds[name].attrs["undefined"]


def test_local_attention_that_reaches_no_place_is_not_defined() -> None:
    model = tiny_model("local")  # layer 1 sees 8 positions
    kinds = ih.induction_kinds(model, length=12, n_examples=3)
    assert kinds["duplicate_token"][0].notnull().all()
    assert kinds["duplicate_token"][1].isnull().all()
    reason = kinds["duplicate_token"].attrs["undefined"]
    assert reason.startswith("layer 1: local attention does not reach the nearest place that counts, 12 positions back")


def test_models_without_room_for_a_kind_say_so_and_have_the_others() -> None:
    kinds = ih.induction_kinds(tiny_model("attention_only", d_vocab=12, n_ctx=22), n_examples=3)
    assert kinds["duplicate_token"].notnull().all()
    assert kinds["two_token_prefix"].notnull().all()
    assert kinds["token_induction"].notnull().all()
    assert kinds["four_token_prefix"].isnull().all()
    assert kinds["four_token_prefix"].attrs["undefined"] == (
        "four_token_prefix takes at least 24 positions and 14 different tokens; this model has 22 positions and 12 "
        "tokens to draw from"
    )


def test_chance_is_measured_for_every_kind() -> None:
    model = tiny_model("attention_only")
    model.tokenizer = tokenizer_of_words()
    names = list(ih.INDUCTION_KINDS)
    for kind in ("shuffled_tokens", "random_weights"):
        null = ih.null_scores(model, kind=kind, evaluators=names, n_draws=2, n_examples=3, progress=False)
        for name in names:
            assert null[name].notnull().all(), name
    scores = ih.score_heads(model, evaluators=names, n_examples=3)
    assert ((scores.p_value("two_token_prefix", null) > 0) & (scores.p_value("two_token_prefix", null) <= 1)).all()


@pytest.mark.parametrize("weight", ["blocks.0.attn.b_V", "blocks.1.attn.b_Q"])
def test_copy_suppression_tells_of_numbers_that_overflow(weight: str) -> None:
    model = tiny_model("with_mlps", dtype=torch.float16)
    parameter = dict(model.named_parameters())[weight]
    parameter.data[1] = 6e4
    if weight.endswith("b_Q"):
        model.blocks[1].attn.b_K.data[1] = 6e4
    else:
        model.blocks[0].attn.W_O.data[1] = 9e3
    with pytest.raises(ih.NumericsError, match=f"layer {weight[7]}"):
        ih.copy_suppression(model, random_tokens(model, length=40))
