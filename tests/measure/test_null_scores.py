import copy

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.measure.null_scores import in_random_order
from ih_lens.models.random_weights import models_with_random_weights
from tests.helpers import random_tokens, tiny_model
from tests.measure.twins import patterns
from tests.models.bridges import tiny_bridge
from tests.oracles.hand_built import INDUCTION, UNIFORM, induction_model

SETTINGS = {"length": 8, "n_examples": 4}
KINDS = ("random_weights", "same_norm_weights", "shuffled_tokens")


@pytest.mark.parametrize("kind", ["shortformer", "parallel", "rms_grouped", "local", "smeared"])
@pytest.mark.parametrize("null", KINDS)
def test_every_model_has_its_null(kind: str, null: str) -> None:
    model = tiny_model(kind)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    found = ih.null_scores(model, kind=null, n_draws=3, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    scores = ih.score_heads(model, **SETTINGS)
    assert found.names == scores.names
    for name in found.names:
        assert found[name].dims == ("draw", "layer", "head")
        assert {"definition", "undefined"} & set(found[name].attrs)
    again = ih.null_scores(model, kind=null, n_draws=2, batch_size=1, **SETTINGS)
    np.testing.assert_allclose(again["prefix_matching"], found["prefix_matching"][:2], atol=1e-9)
    assert (
        found["prefix_matching"].isel(draw=0).values.tolist() != found["prefix_matching"].isel(draw=1).values.tolist()
    )
    assert scores.p_value("prefix_matching", found).dims == ("layer", "head")


def test_random_weights_are_those_of_a_new_model() -> None:
    model = tiny_model("smeared")
    (new,) = models_with_random_weights(model, "random_weights", range(5, 6))
    expected = ih.build_model(model.cfg, smeared_keys=True, seed=5)
    tokens = random_tokens(model)
    torch.testing.assert_close(new(tokens), expected(tokens))
    null = ih.null_scores(model, n_draws=2, seed=4, **SETTINGS)
    scored = ih.score_heads(expected, seed=5, **SETTINGS)
    np.testing.assert_allclose(null["copying"].isel(draw=1), scored["copying"])


def test_random_weights_of_the_same_norm_keep_it_and_nothing_else() -> None:
    model = tiny_model("with_mlps", d_model=32, d_head=16)
    (new,) = models_with_random_weights(model, "same_norm_weights", range(1))
    for (name, ours), theirs in zip(model.named_parameters(), new.parameters(), strict=True):
        if "W_" not in name:
            assert torch.equal(ours, theirs), name
            continue
        norms = [matrix.flatten(-2).norm(dim=-1) for matrix in (ours, theirs)]
        torch.testing.assert_close(norms[1], norms[0], rtol=0.2, atol=0)
        assert abs(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]) < 0.15, name


def test_shuffled_tokens_keep_the_targets_where_they_were() -> None:
    """Slow twin: patterns on the shuffled tokens, targets found in the others by loops."""
    model = tiny_model("attention_only")
    null = ih.null_scores(model, kind="shuffled_tokens", n_draws=2, seed=3, bos=0, **SETTINGS)
    tokens = ih.repeated_random_tokens(model, seed=4, bos=0, **SETTINGS)
    shuffled = in_random_order(tokens, 4, n_start=1)
    assert torch.equal(shuffled.sort(dim=1).values, tokens.sort(dim=1).values)
    assert torch.equal(shuffled[:, 0], tokens[:, 0])
    assert not torch.equal(shuffled, tokens)
    attention, of_examples = patterns(model, shuffled), []
    for example, row in enumerate(tokens.tolist()):
        of_queries = []
        for query in range(1, len(row)):
            targets = [key for key in range(2, query + 1) if row[key - 1] == row[query] and key - 1 < query]
            if targets:
                of_queries.append(attention[example, :, :, query, targets].sum(dim=-1))
        of_examples.append(torch.stack(of_queries).mean(dim=0))
    expected = torch.stack(of_examples).mean(dim=0)
    np.testing.assert_allclose(null["prefix_matching"].isel(draw=1), expected, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_built_induction_heads_stand_out_and_others_do_not(kind: str) -> None:
    model = induction_model()
    settings = {"length": 8, "bos": 0, "n_examples": 3}
    scores = ih.score_heads(model, **settings)
    null = ih.null_scores(model, kind=kind, n_draws=20, **settings)
    p_values = scores.p_value("prefix_matching", null)
    assert float(p_values[1, INDUCTION]) == pytest.approx(1 / (21 if kind == "shuffled_tokens" else 81))
    assert float(p_values[1, UNIFORM]) > 0.2
    assert (p_values[0] > 0.5).all()
    found = ih.significant_heads(p_values, scores, level=0.2).query("significant")
    assert found["head"].tolist() == ["L1H0", "L1H1"]


def test_a_head_that_follows_positions_is_told_from_one_that_follows_tokens() -> None:
    """It attends as far back as this one period asks for, and so scores 1 without looking at any token."""
    model = induction_model(n_ctx=40)
    attention = model.blocks[1].attn
    attention.W_Q.data[UNIFORM], attention.W_K.data[UNIFORM] = 0.0, 0.0
    position = slice(24, 64)
    back = torch.eye(40, dtype=torch.float64).roll(-7, dims=1)  # from position i to i - 7
    attention.W_Q.data[UNIFORM, position, :40], attention.W_K.data[UNIFORM, position, :40] = 200 * back, torch.eye(40)
    settings = {"length": 8, "repeats": 2, "bos": 0, "n_examples": 3}
    scores = ih.score_heads(model, **settings)
    assert scores["prefix_matching"][1, UNIFORM] > 0.99
    null = ih.null_scores(model, kind="shuffled_tokens", **settings)
    p_values = scores.p_value("prefix_matching", null)
    assert float(p_values[1, UNIFORM]) == 1.0
    assert float(p_values[1, INDUCTION]) == pytest.approx(1 / 21)


def test_heads_of_random_weights_are_not_found() -> None:
    """Scores of models that know nothing, against the null of another such model."""
    cfg = tiny_model("attention_only", n_layers=2).cfg
    null = ih.null_scores(ih.build_model(cfg, seed=1000), n_draws=40, **SETTINGS)
    p_values = np.concatenate(
        [
            ih.score_heads(ih.build_model(cfg, seed=seed), seed=seed, **SETTINGS).p_value(name, null).to_numpy().ravel()
            for seed in range(500, 520)
            for name in ("prefix_matching", "copying", "ov_copying_eigenvalues")
        ]
    )
    for level in (0.05, 0.2, 0.5):
        assert abs((p_values <= level).mean() - level) < 0.35 * level  # 480 of them, not all independent


def test_measures_without_a_null_say_why() -> None:
    model = tiny_model("attention_only")
    null = ih.null_scores(model, kind="shuffled_tokens", n_draws=2, **SETTINGS)
    assert "by position" in null["previous_token"].attrs["undefined"]
    assert "read off the weights" in null["qk_eigenvalue_trace"].attrs["undefined"]
    assert ih.score_heads(model, **SETTINGS).p_value("previous_token", null).isnull().all()
    capped = tiny_model("with_mlps", output_logits_soft_cap=30.0)
    null = ih.null_scores(capped, kind="shuffled_tokens", n_draws=2, **SETTINGS)
    assert "caps its logits" in null["copying"].attrs["undefined"]
    assert null["prefix_matching"].notnull().all()


def test_bridges_have_shuffled_tokens(tmp_path) -> None:
    bridge = tiny_bridge("gpt2", tmp_path)
    assert ih.null_scores(bridge, kind="shuffled_tokens", n_draws=2, **SETTINGS)["prefix_matching"].notnull().all()
    with pytest.raises(ih.CapabilityError, match="random weights need a HookedTransformer"):
        ih.null_scores(bridge, n_draws=2, **SETTINGS)


def test_wrong_settings_are_explained() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="kind: expected one of random_weights, same_norm_weights, shuffled_tokens"):
        ih.null_scores(model, kind="random")
    with pytest.raises(ih.InputError, match="n_draws: expected an integer of at least 1"):
        ih.null_scores(model, n_draws=0)
