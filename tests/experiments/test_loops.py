"""Generation with and without heads: a hand-built induction model loops, and without its head it does not."""

import numpy as np
import pytest
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model
from tests.oracles import hand_built

D_VOCAB, N_NEW = 24, 20
HEAD = f"L1H{hand_built.INDUCTION}"


def looping_model() -> HookedTransformer:
    """An induction head that outvotes what the position says: another token at each position, never in a loop."""
    model = hand_built.induction_model(d_vocab=D_VOCAB)
    upper = model.blocks[1].attn
    for head in (hand_built.ANTI_COPYING, hand_built.OFFSET_INDUCTION, hand_built.UNIFORM):
        upper.W_O.data[head] *= 1e-3
    upper.W_O.data[hand_built.INDUCTION] *= 20
    n_ctx = model.cfg.n_ctx
    position = torch.arange(n_ctx)
    model.unembed.W_U.data[D_VOCAB + position, (7 * position) % D_VOCAB] = 5.0
    return model


def prompts(n_examples: int = 4) -> torch.Tensor:
    """Cycles of five tokens, twice."""
    rows = [torch.randperm(D_VOCAB, generator=torch.Generator().manual_seed(n))[:5] for n in range(n_examples)]
    return torch.stack(rows).repeat(1, 2)


def test_a_hand_built_induction_model_loops_and_without_its_head_it_does_not() -> None:
    found = ih.generation_loops(looping_model(), prompts(), [HEAD], n_new=N_NEW, n_draws=3, progress=False)
    assert found["in_loop"].sel(condition="whole model").to_numpy().tolist() == [1.0] * 4
    assert found["period"].sel(condition="whole model").to_numpy().tolist() == [5] * 4
    assert found["time_to_loop"].sel(condition="whole model").to_numpy().tolist() == [0] * 4
    assert found["in_loop"].sel(condition="without the heads").to_numpy().tolist() == [0.0] * 4
    others = found.isel(condition=slice(2, None))
    assert set(others["condition"].to_numpy()) == {f"without L1H{head}" for head in range(1, 4)}
    assert bool((others["in_loop"] == 1).all())
    effect = ih.loop_effects(found)
    assert effect.value.sel(condition="without the heads").item() == -1
    assert effect.value.sel(condition="without L1H1").item() == 0
    assert effect.stderr.sel(condition="without the heads").item() == 0
    assert ih.loop_effects(found, "distinct_2").value.sel(condition="without the heads").item() > 0.5


def test_tokens_are_those_of_the_models_own_generation_under_the_same_clamp() -> None:
    model = looping_model()
    for held in ([], [ih.ZeroHead(HEAD)]):
        with ih.clamp(model, held):
            ours = ih.generate_tokens(model, prompts(), 10, batch_size=3)
            whole = model.generate(prompts(), 10, do_sample=False, stop_at_eos=False, prepend_bos=False, verbose=False)
        assert torch.equal(ours, whole[:, -10:].cpu())


def test_conditions_hold_what_generating_under_the_clamp_gives() -> None:
    model, start = tiny_model("shortformer"), random_tokens(tiny_model("shortformer"), 5, 8)
    heads = ["L0H1", "L1H2"]
    found = ih.generation_loops(model, start, heads, n_new=12, temperature=0.8, n_draws=2, seed=3, progress=False)
    with ih.clamp(model, [ih.ZeroHead(heads)]):
        alone = ih.generate_tokens(model, start, 12, temperature=0.8, seed=3)
    np.testing.assert_array_equal(found["tokens"].sel(condition="without the heads"), alone)
    told = ih.repetition(alone)
    np.testing.assert_array_equal(found["in_loop"].sel(condition="without the heads"), told["in_loop"])
    for condition in found["condition"].to_numpy()[2:].tolist():
        drawn = condition.removeprefix("without ").split("+")
        assert len(drawn) == 2
        assert not set(drawn) & set(heads)


def test_sampling_follows_the_models_own_distribution_and_depends_on_nothing_else() -> None:
    model = tiny_model("one_layer", d_vocab=5)
    start = torch.tensor([[1, 2, 3]]).repeat(4000, 1)
    drawn = ih.generate_tokens(model, start, 1, temperature=1.0, batch_size=4000)
    expected = model(start[:1])[0, -1].softmax(-1)
    shares = torch.bincount(drawn[:, 0], minlength=5) / 4000
    assert bool((abs(shares - expected) < 4 * (expected * (1 - expected) / 4000).sqrt()).all())
    some = ih.generate_tokens(model, start[:6], 4, temperature=1.0, batch_size=2)
    assert torch.equal(some, ih.generate_tokens(model, start[:6], 4, temperature=1.0, batch_size=6))
    assert torch.equal(some[:3], ih.generate_tokens(model, start[:3], 4, temperature=1.0))
    assert not torch.equal(some, ih.generate_tokens(model, start[:6], 4, temperature=1.0, seed=1))


def test_heads_can_be_matched_by_what_they_write() -> None:
    model = tiny_model("shortformer")
    found = ih.generation_loops(
        model, random_tokens(model, 3, 8), ["L1H0", "L1H1", "L1H2", "L1H3"], n_new=4, match="norm", progress=False
    )
    assert found["condition"].to_numpy().tolist()[2:] == ["without L0H0+L0H1+L0H2+L0H3"]


def test_refuses_what_does_not_fit() -> None:
    model = tiny_model("shortformer")
    start = random_tokens(model, 2, 60)
    with pytest.raises(ih.InputError, match="do not fit the model's context of 64"):
        ih.generate_tokens(model, start, 5)
    with pytest.raises(ih.InputError, match="temperature"):
        ih.generate_tokens(model, start, 1, temperature=-1.0)
    with pytest.raises(ih.InputError, match="heads of layer 1 are to be matched"):
        ih.generation_loops(model, start, ["L1H0", "L1H1", "L1H2", "L1H3"], n_new=2, progress=False)
    found = ih.generation_loops(model, start, ["L1H0"], n_new=2, progress=False)
    with pytest.raises(ih.InputError, match="measure: expected one of"):
        ih.loop_effects(found, "time_to_loop")
