"""Skip-trigrams against all triples of a tiny vocabulary, and attention that follows tokens in heads built by hand."""

import numpy as np
import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from tests.helpers import tiny_model
from tests.oracles import hand_built


def all_triples(model: HookedTransformer, layer: int, head: int) -> torch.Tensor:
    """Strength [source, destination, out] of every triple, from whole matrices."""
    weights = ih.effective_weights(model)
    scores = weights.W_E @ weights.W_Q[layer, head] @ weights.W_K[layer, head].T @ weights.W_E.T
    scores = scores / (model.cfg.attn_scale if model.cfg.use_attn_scale else 1.0)
    attention = (scores - scores.mean(dim=1, keepdim=True)).clamp_min(0)  # [destination, source]
    logits = weights.W_E @ weights.W_V[layer, head] @ weights.W_O[layer, head] @ weights.W_U  # [source, out]
    return torch.einsum("ds,so->sdo", attention, logits)


@pytest.mark.parametrize("kind", ["one_layer", "shortformer", "no_norm", "rms_grouped"])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_the_strongest_are_those_of_all(kind: str, k: int) -> None:
    model = tiny_model(kind)
    for head in range(model.cfg.n_heads):
        found = ih.skip_trigrams(model, (0, head), k=k)
        strengths = all_triples(model, 0, head)
        expected = strengths.flatten().topk(k).values
        np.testing.assert_allclose(found["strength"], expected, rtol=1e-9)
        picked = strengths[found["source"], found["destination"], found["out"]]
        np.testing.assert_allclose(found["strength"], picked, rtol=1e-9)
        np.testing.assert_allclose(found["attention"] * found["logit"], picked, rtol=1e-9)
        assert not found.duplicated(["source", "destination", "out"]).any()


def planted() -> HookedTransformer:
    """One layer whose head 0 attends from token 2 back to token 5, and then says 7; head 1 sees positions alone."""
    model = tiny_model("one_layer", normalization_type=None, n_ctx=40, d_model=80, d_head=40, d_vocab=40)
    for parameter in model.parameters():
        parameter.data.zero_()
    token, position = torch.arange(40), torch.arange(40)
    model.embed.W_E.data[token, token] = 1.0
    model.pos_embed.W_pos.data[position, 40 + position] = 1.0
    model.unembed.W_U.data[token, token] = 1.0
    attention = model.blocks[0].attn
    attention.W_Q.data[0, 2, 0] = attention.W_K.data[0, 5, 0] = 30.0
    attention.W_V.data[0, 5, 0] = attention.W_O.data[0, 0, 7] = 3.0
    attention.W_Q.data[1, 40 + position[1:], position[:-1]] = 50.0  # the position before
    attention.W_K.data[1, 40 + position, position] = 50.0
    return model


def test_a_planted_triple_is_found() -> None:
    (found,) = ih.skip_trigrams(planted(), "L0H0", k=5).to_dict("records")
    assert (found["source"], found["destination"], found["out"]) == (5, 2, 7)
    assert len(ih.skip_trigrams(planted(), "L0H3", k=5)) == 0


def test_later_layers_say_that_they_are_only_a_part() -> None:
    assert ih.skip_trigrams(tiny_model("shortformer"), "L1H0").attrs["direct_path_only"]
    with pytest.raises(ih.InputError, match="does not exist"):
        ih.skip_trigrams(planted(), "L1H0")


def test_attention_that_follows_tokens_is_told_from_that_which_follows_positions() -> None:
    """A duplicate-token head, one that looks two back, one that looks to the start, and one that matches prefixes."""
    model = hand_built.induction_model(d_vocab=40)
    found = ih.context_free_attention(model, length=20, n_examples=12, bos=39)
    scores = found.value.to_numpy()
    assert scores[0, hand_built.PREVIOUS_TOKEN] < -0.8
    assert scores[0, hand_built.TWO_BEFORE] < -0.8
    assert abs(scores[0, hand_built.START_TOKEN]) < 1e-9
    assert scores[0, hand_built.DUPLICATE_TOKEN] > 0.4
    assert abs(scores[1, hand_built.INDUCTION]) < 0.2
    assert abs(scores[1, hand_built.UNIFORM]) < 1e-9
    assert bool((abs(found.value) <= 1).all())
    assert bool((found.stderr < 0.1).all())


def test_a_head_that_only_sees_tokens_scores_what_its_own_attention_gives() -> None:
    """Without positions attention is the same function of tokens in every order; checked against rows by hand."""
    model = tiny_model("one_layer", initializer_range=1.5)
    model.pos_embed.W_pos.data.zero_()
    found = ih.context_free_attention(model, length=15, n_examples=10, bos=None)
    assert bool((found.value > 0.1).all())
    again = ih.context_free_attention(model, length=15, n_examples=10, bos=None)
    np.testing.assert_array_equal(found.value, again.value)


def test_refuses_what_does_not_fit_the_context() -> None:
    model = tiny_model("one_layer", n_ctx=20)
    with pytest.raises(ih.InputError):
        ih.context_free_attention(model, length=20, bos=None)
    with pytest.raises(ih.InputError, match="length: expected an integer of at least 4"):
        ih.context_free_attention(model, length=2)
