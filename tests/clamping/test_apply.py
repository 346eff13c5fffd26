import copy

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model


def test_hooks_of_plain_transformer_lens_do_the_same() -> None:
    model = tiny_model("rotary")
    tokens = random_tokens(model) % 5
    clamps = [ih.InductionTarget("L1H0"), ih.ZeroHead("L0H2"), ih.IdealOV("L1H1", gain=2.0)]
    with ih.clamp(model, clamps):
        held = model(tokens)
    assert torch.equal(model.run_with_hooks(tokens, fwd_hooks=ih.clamp_hooks(model, clamps, tokens)), held)
    with pytest.raises(ih.InputError, match="needs more than hooks on one pass"):
        ih.clamp_hooks(model, ih.ShiftedLayer(1), tokens)


def test_clamps_nest_and_the_later_one_sees_what_the_earlier_one_made() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    with ih.clamp(model, [ih.ZeroHead("L0H0"), ih.PreviousToken("L1H1")]):
        together = model(tokens)
    with ih.clamp(model, ih.ZeroHead("L0H0")):
        inner_less = model(tokens)
        with ih.clamp(model, ih.PreviousToken("L1H1")):
            assert torch.equal(model(tokens), together)
        assert torch.equal(model(tokens), inner_less)


def test_schedules_follow_the_state() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    natural = model(tokens)
    plan = [ih.ZeroHead("L0H0", during=ih.During(2, 4)), ih.ZeroHead("L0H1", during=ih.When("loss", "below", 2.0))]
    with ih.clamp(model, plan) as state:
        changed = []
        for step, loss in enumerate((3.0, 3.0, 3.0, 3.0, 1.5, 3.0)):
            state.step = step
            changed.append(not torch.equal(model(tokens), natural))
            state.note(loss=loss)
    assert changed == [False, False, True, True, False, True]


@pytest.mark.parametrize(
    ("clamps", "message"),
    [
        ([ih.PreviousToken("L0H1"), ih.ZeroHead("L0H1")], r"PreviousToken\(heads=\['L0H1'\]\).*changes no logit"),
        ([ih.FreezeQ(tiny_model("attention_only"), "L0H1"), ih.PreviousToken("L0H1")], "FreezeQ.*changes no logit"),
        ([ih.ZeroHead("L0H1"), ih.Graft(tiny_model("attention_only"), 0)], "ZeroHead.*changes no logit"),
    ],
)
def test_clamps_without_effect_are_refused(clamps: list[ih.Clamp], message: str) -> None:
    with pytest.raises(ih.CapabilityError, match=message), ih.clamp(tiny_model("attention_only"), clamps):
        pass


def test_a_clamp_that_is_undone_only_at_times_is_not_refused() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    with ih.clamp(model, ih.ZeroHead("L0H1")):
        undone = model(tokens)
    with ih.clamp(model, [ih.PreviousToken("L0H1"), ih.ZeroHead("L0H1", during=ih.During(0, 5))]) as state:
        assert torch.equal(model(tokens), undone)
        state.step = 5
        assert not torch.equal(model(tokens), undone)


def test_a_dead_head_is_found() -> None:
    model = tiny_model("attention_only")
    model.blocks[1].attn.W_O.data[2] = 0
    with pytest.raises(ih.CapabilityError, match="changes no logit"), ih.clamp(model, ih.ZeroHead("L1H2")):
        pass


@pytest.mark.parametrize(
    ("clamps", "message"),
    [
        (
            [ih.PreviousToken("L0H1"), ih.InductionTarget(["L0H0", "L0H1"])],
            "clamps in conflict at blocks.0.attn.hook_pattern",
        ),
        ([ih.Forbid("L0H1"), ih.PreviousToken("L0H1")], "clamps in conflict"),
        ([ih.ZeroHead("L0H1"), ih.MeanHead("L0H1")], "clamps in conflict"),
        ([ih.PreviousToken("L5H1")], "head L5H1 does not exist"),
        ([ih.ShiftedLayer(7)], "layers: expected different numbers from 0 to 1"),
        ([ih.FreezeResid(tiny_model("attention_only", d_model=8, d_head=2), (0,))], "its d_model is 8"),
    ],
)
def test_plans_that_cannot_be_are_explained(clamps: list[ih.Clamp], message: str) -> None:
    with pytest.raises(ih.InputError, match=message), ih.clamp(tiny_model("attention_only"), clamps):
        pass


@pytest.mark.parametrize(
    "clamps",
    [
        [ih.PreviousToken("L0H1"), ih.Forbid("L0H1", keys="start", rows=(0,))],
        [ih.PreviousToken("L0H1", rows="odd"), ih.InductionTarget("L0H1", rows="even")],
        [ih.PreviousToken("L0H1", during=ih.During(0, 5)), ih.InductionTarget("L0H1", during=ih.During(5))],
        [ih.PreviousToken("L0H1"), ih.InductionTarget("L0H2")],
        [ih.Forbid("L0H1"), ih.Temperature("L0H1", temperature=2.0)],
    ],
)
def test_clamps_that_share_a_head_in_turns_are_allowed(clamps: list[ih.Clamp]) -> None:
    ih.Plan(clamps).check(tiny_model("attention_only").cfg)


def test_mistakes_in_clamps_are_explained() -> None:
    for make, message in [
        (lambda: ih.PreviousToken("L0H1", strength=1.5), "strength: expected a number from 0 to 1"),
        (lambda: ih.PreviousToken("L0H1", gradient="none"), "gradient: expected one of"),
        (lambda: ih.PreviousToken("L0H1", rows="first"), "rows: expected one of"),
        (lambda: ih.PreviousToken(["L0H1", "0.1"]), "none twice"),
        (lambda: ih.Forbid("L0H1", keys="next"), "keys: expected one of"),
        (lambda: ih.Allow("L0H1", keys=(-1,)), "keys: expected distances"),
        (lambda: ih.Temperature("L0H1", temperature=0.0), "temperature: expected a positive number"),
        (lambda: ih.ShiftedLayer(0), "a layer with layers before it"),
        (lambda: ih.Preserve("scores", layers=[0]), "what: expected one of"),
        (lambda: ih.Plan(["L0H1"]), "expected clamps such as"),
        (lambda: ih.Plan.from_json({"clamps": [{"clamp": "Nothing"}]}), "clamp: expected one of"),
        (lambda: ih.Plan.from_json({"clamps": [{"clamp": "ZeroHead", "head": "L0H1"}]}), "clamp ZeroHead"),
        (lambda: ih.Plan([], momentum="reset"), "momentum: expected one of"),
    ]:
        with pytest.raises(ih.InputError, match=message):
            make()


def test_groups_that_share_keys_are_held_together() -> None:
    model, frozen = tiny_model("rms_grouped"), tiny_model("rms_grouped", seed=3)
    with ih.clamp(model, ih.FreezeK(frozen, ["L0H2", "L0H3"])):
        model(random_tokens(model))
    with (
        pytest.raises(ih.CapabilityError, match="groups of 2 heads share keys and values"),
        ih.clamp(model, ih.FreezeK(frozen, "L0H2")),
    ):
        pass


def test_an_unknown_number_of_rows_is_refused() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model) % 5
    with ih.clamp(model, ih.InductionTarget("L1H0")):
        model(tokens)
        residual = torch.randn(5, 20, 16, dtype=torch.float64)
        with pytest.raises(
            ih.InputError, match="an activation of 5 rows of 20 positions after a forward pass on 3 x 20"
        ):
            model(residual, start_at_layer=1)


@pytest.mark.parametrize("kind", ["attention_only", "smeared", "with_mlps"])
def test_measures_inside_see_the_clamped_model(kind: str) -> None:
    model = tiny_model(kind)
    evals = ih.EvalSet.from_tokens(random_tokens(model, 4, 16) % 6)
    with ih.clamp(model, [ih.InductionTarget("L1H1"), ih.PreviousToken("L0H2")]):
        losses = ih.token_losses(model, evals, keep="all").full
        twin = model(evals.tokens, return_type="loss", loss_per_token=True)
        scores = ih.previous_token_score(model, evals.tokens)
        ablated = ih.ablate_heads(model, evals, kind="full", context_indices="all")
        with ih.clamp(model, ih.ZeroHead("L0H0")):
            one_less = model(evals.tokens, return_type="loss", loss_per_token=True)
    torch.testing.assert_close(torch.as_tensor(losses.values), twin.detach())
    assert scores[0, 2] == pytest.approx(1.0)
    torch.testing.assert_close(torch.as_tensor(ablated.by_context_index.values[0, 0]), one_less.detach().mean(0))


def test_preserving_splits_an_ablation_into_its_paths() -> None:
    model = tiny_model("no_norm")
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens)
    with ih.clamp(model, [ih.ZeroHead("L0H1"), ih.Preserve("pattern", layers=[1])]):
        kept = model(tokens)
    frozen = [("blocks.1.attn.hook_pattern", lambda value, hook: cache[hook.name])]

    def zero(value, hook):
        value = value.clone()
        value[:, :, 1] = 0
        return value

    twin = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", zero), *frozen])
    torch.testing.assert_close(kept, twin)


def test_a_shifted_layer_matches_on_the_previous_token() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    embedding = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    shifted = torch.cat([model.W_E[tokens[:, :1]], model.W_E[tokens[:, :-1]]], 1) + model.W_pos[: tokens.shape[1]]
    block = model.blocks[1]
    written = block.attn(block.ln1(embedding), block.ln1(shifted), block.ln1(embedding))
    twin = model.unembed(model.ln_final(embedding + written))
    with ih.clamp(model, ih.ShiftedLayer(1)):
        torch.testing.assert_close(model(tokens), twin)


def test_ideal_copying_predicts_what_is_attended_to() -> None:
    model = tiny_model("attention_only")
    tokens = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:20].reshape(2, 10)
    with ih.clamp(model, [ih.PreviousToken("L1H0"), ih.IdealCopyLogits("L1H0", floor=1e-12)]):
        probabilities = model(tokens).softmax(-1)
    for query in range(1, 10):
        assert (probabilities[torch.arange(2), query, tokens[:, query - 1]] > 0.999).all()


def test_an_ideal_head_writes_the_directions_of_what_it_attends_to() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens)
    own = cache["z", 1][:, :, 0] @ model.W_O[1, 0]
    directions = model.W_U.T / model.W_U.T.norm(dim=-1, keepdim=True)
    copied = cache["pattern", 1][:, 0] @ directions[tokens]
    with ih.clamp(model, ih.IdealOV("L1H0", gain=3.0)):
        _, held = model.run_with_cache(tokens)
    torch.testing.assert_close(held["attn_out", 1], cache["attn_out", 1] - own + 3.0 * copied)


CLAMPS_THAT_GENERATE = [
    ih.PreviousToken("L0H1"),
    ih.InductionTarget("L1H0"),
    ih.InputMatch("L1H0"),
    ih.ShiftedLayer(1),
    ih.Preserve("pattern", layers=[1]),
    ih.IdealOV("L1H1", gain=20.0),
]


@pytest.mark.parametrize("kind", ["with_mlps", "rotary"])
@pytest.mark.parametrize("entry", CLAMPS_THAT_GENERATE, ids=lambda entry: type(entry).__name__)
def test_generation_inside_is_that_of_the_clamped_model(kind: str, entry: ih.Clamp) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, length=6) % 4
    settings = {"max_new_tokens": 5, "do_sample": False, "verbose": False, "stop_at_eos": False}
    natural = model.generate(tokens, **settings)
    clamps = [ih.ZeroHead("L1H2"), entry]
    with ih.clamp(model, clamps):
        twin = tokens
        for _ in range(5):
            twin = torch.cat([twin, model(twin)[:, -1:].argmax(-1)], dim=1)
        assert torch.equal(model.generate(tokens, **settings), twin)
        with ih.clamp(model, ih.ZeroHead("L1H3")):
            nested = model.generate(tokens, **settings)
        assert torch.equal(model.generate(tokens, **settings, use_past_kv_cache=False), twin)
    with ih.clamp(model, [*clamps, ih.ZeroHead("L1H3")]):
        assert torch.equal(model.generate(tokens, **settings), nested)
    assert torch.equal(model.generate(tokens, **settings), natural)
    assert not {"generate", "forward"} & set(vars(model))
    assert not model.embed._forward_pre_hooks


def test_a_copy_of_a_clamped_model_generates_by_itself() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model, length=6)
    with ih.clamp(model, ih.ZeroHead("L0H0")):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.unembed.W_U.zero_()
            other.unembed.b_U.zero_()
        made = other.generate(tokens, max_new_tokens=2, do_sample=False, verbose=False, stop_at_eos=False)
    assert (made[:, 6:] == 0).all()


@pytest.mark.parametrize("entry", [ih.PreviousToken("L0H1"), ih.InductionTarget("L0H1")])
def test_passes_with_a_cache_are_refused(entry: ih.Clamp) -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model, length=6)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    with ih.clamp(model, entry):
        model(tokens[:, :4], past_kv_cache=cache, attention_mask=torch.ones(3, 4, dtype=torch.int64))
        with pytest.raises(ih.InputError, match="without a key-value cache"):
            model(tokens[:, 4:], past_kv_cache=cache, attention_mask=torch.ones(3, 2, dtype=torch.int64))


# PyTorch's advice to whoever has exactly this Python
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
# what its compiler does itself in 2.9
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_is_clamped_all_the_same() -> None:
    model = tiny_model("attention_only")
    tokens = random_tokens(model)
    compiled = torch.compile(model, backend="eager")
    natural = compiled(tokens)
    with ih.clamp(model, ih.PreviousToken("L0H1")):
        held = model(tokens)
        assert torch.equal(compiled(tokens), held)
    assert not torch.equal(held, natural)
    assert torch.equal(compiled(tokens), natural)
    with ih.clamp(model, ih.PreviousToken("L0H1")):
        assert torch.equal(compiled(tokens), held)
