"""Terms and paths of a head against TransformerLens's own hooks, on every kind of model."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih
from ih_lens.measure.head_reading import term_names
from ih_lens.measure.head_wiring import PATHS
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.heads_anew import (
    DEEP,
    HEAD,
    head_scores,
    head_visible,
    mean_over_queries,
    patched,
    scores_of,
    slow_copied_logit,
    slow_match,
    slow_prefix_matching,
    split_inputs,
)
from tests.measure.twins import processed
from tests.models.bridges import tiny_bridge


@pytest.mark.parametrize("side", ["k", "q"])
@pytest.mark.parametrize("kind", ZOO)
def test_terms_sum_to_the_attention_score(kind: str, side: str) -> None:
    model = tiny_model(kind)
    tokens, head = random_tokens(model), (model.cfg.n_layers - 1, HEAD)
    terms = ih.attention_score_terms(model, head, tokens, side=side)
    assert len(terms) == len(term_names(model, head[0])) + 1
    torch.testing.assert_close(terms.sum(dim=0), head_scores(model, tokens, head), rtol=0, atol=1e-9)


def test_norms_of_queries_and_keys_are_held_too() -> None:
    model = tiny_model("rms_grouped", use_qk_norm=True)
    tokens = random_tokens(model)
    for side in ("k", "q"):
        terms = ih.attention_score_terms(model, (1, HEAD), tokens, side=side)
        torch.testing.assert_close(terms.sum(dim=0), head_scores(model, tokens, (1, HEAD)), rtol=0, atol=1e-9)
    split = split_inputs("rms_grouped", use_qk_norm=True)
    change = model.run_with_cache(tokens)[1]["z", 0][:, :, 2].detach() @ model.blocks[0].attn.W_O[2].detach()
    found = ih.path_effects(model, (1, HEAD), tokens)["without"].sel(source="L0H2", side="k")
    np.testing.assert_allclose(found, slow_prefix_matching(patched(split, tokens, "k", change)[0], tokens), atol=1e-9)


@pytest.mark.parametrize("side", ["k", "q"])
@pytest.mark.parametrize("kind", DEEP)
def test_the_term_of_a_head_is_what_its_removal_takes_with_the_scale_held(kind: str, side: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    place = term_names(model, 1).index("L0H2")
    written = model.run_with_cache(tokens)[1]["z", 0][:, :, 2] @ model.blocks[0].attn.W_O[2]
    term = ih.attention_score_terms(model, (1, HEAD), tokens, side=side)[place]
    torch.testing.assert_close(scores_of(model, tokens, side, written), term, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ZOO)
def test_the_match_and_its_pairs_follow_from_the_scores(kind: str) -> None:
    model = tiny_model(kind)
    tokens, head = random_tokens(model), (model.cfg.n_layers - 1, HEAD)
    terms = ih.match_terms(model, head, tokens)
    raw = model.run_with_cache(tokens)[1]["attn_scores", head[0]][:, head[1]].detach()
    expected = slow_match(raw, raw.isfinite(), tokens)
    np.testing.assert_allclose(terms["match"], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(terms["pairs"].sum(), np.mean(expected), rtol=0, atol=1e-9)
    for side, dim in (("k", "key"), ("q", "query")):
        by_position = ih.attention_score_terms(model, head, tokens, side=side)
        for place, name in enumerate(term_names(model, head[0])):
            slow = slow_match(by_position[place], raw.isfinite(), tokens)
            np.testing.assert_allclose(terms[dim].sel({f"{dim}_term": name}), slow, rtol=0, atol=1e-9)
    expected_score = ih.prefix_matching_score(model, tokens)[head]
    np.testing.assert_allclose(terms["prefix_matching"].mean(), expected_score, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["shortformer", "rms_grouped", "alibi", "smeared_rotary_grouped"])
def test_the_previous_token_part_is_what_patterns_with_nothing_else_would_write(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    found = ih.match_terms(model, (1, HEAD), tokens)["key_previous"]
    assert bool(found.sel(key_term="embedding").isnull().all())
    _, cache = model.run_with_cache(tokens)
    values = cache["v", 0].repeat_interleave(4 // cache["v", 0].shape[2], dim=2)
    visible = cache["attn_scores", 1][:, HEAD].isfinite()
    for head in range(4):
        previous = torch.diag_embed(cache["pattern", 0][:, head].diagonal(-1, dim1=1, dim2=2), -1) @ values[:, :, head]
        scores = scores_of(model, tokens, "k", previous @ model.blocks[0].attn.W_O[head])
        expected = slow_match(scores, visible, tokens)
        np.testing.assert_allclose(found.sel(key_term=f"L0H{head}"), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("replace", ["zero", "mean"])
@pytest.mark.parametrize("kind", DEEP)
def test_paths_are_those_of_split_inputs(kind: str, replace: str) -> None:
    model, split = tiny_model(kind), split_inputs(kind)
    tokens = random_tokens(model)
    effects = ih.path_effects(model, (1, HEAD), tokens, replace=replace)
    z = model.run_with_cache(tokens)[1]["z", 0].detach()
    for head in (0, 3):
        change = (z[:, :, head] @ model.blocks[0].attn.W_O[head]).detach()
        if replace == "mean":
            change = change - change.mean(dim=(0, 1))
        for side in "kqv":
            pattern, read = patched(split, tokens, side, change)
            slow = slow_copied_logit(model, read, tokens) if side == "v" else slow_prefix_matching(pattern, tokens)
            found = effects["without"].sel(side=side, source=f"L0H{head}")
            np.testing.assert_allclose(found, slow, rtol=0, atol=1e-9)
    pattern, read = patched(split, tokens, "k", torch.zeros(()).double())
    np.testing.assert_allclose(effects["natural"].sel(side="k"), slow_prefix_matching(pattern, tokens), atol=1e-9)
    np.testing.assert_allclose(effects["natural"].sel(side="v"), slow_copied_logit(model, read, tokens), atol=1e-9)


@pytest.mark.parametrize("kind", ["with_mlps", "rms_grouped"])
def test_frozen_scales_take_exactly_the_terms(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    effects = ih.path_effects(model, (1, HEAD), tokens, ln_scale="frozen")
    names = term_names(model, 1)
    raw = model.run_with_cache(tokens)[1]["attn_scores", 1][:, HEAD].detach()
    terms = ih.attention_score_terms(model, (1, HEAD), tokens)
    all_heads = sum(terms[names.index(f"L0H{head}")] for head in range(4))
    for source, term in (("L0H2", terms[names.index("L0H2")]), ("all earlier heads", all_heads)):
        slow = slow_prefix_matching((raw - term).softmax(dim=-1), tokens)
        np.testing.assert_allclose(effects["without"].sel(side="k", source=source), slow, rtol=0, atol=1e-9)


def test_controls_are_other_heads_at_the_same_size() -> None:
    model, split = tiny_model("with_mlps"), split_inputs("with_mlps")
    tokens = random_tokens(model)
    found = ih.path_controls(model, (1, HEAD), [("k", "L0H2"), ("v", "L0H0")], tokens, n_controls=8)
    assert list(found["partner"].to_numpy()) == ["k L0H2", "v L0H0"]
    assert int(found.isel(partner=0, example=0).notnull().sum()) == 3
    z = model.run_with_cache(tokens)[1]["z", 0].detach()
    written = [(z[:, :, head] @ model.blocks[0].attn.W_O[head]).detach() for head in range(4)]
    slow = []
    for head in (0, 1, 3):
        size = written[2].flatten(1).norm(dim=1) / written[head].flatten(1).norm(dim=1)
        slow.append(slow_prefix_matching(patched(split, tokens, "k", written[head] * size[:, None, None])[0], tokens))
    there = found.isel(partner=0).dropna("control").to_numpy()
    np.testing.assert_allclose(np.sort(there, axis=0), np.sort(slow, axis=0), rtol=0, atol=1e-9)


def test_copied_first_is_the_argmax_of_the_output() -> None:
    model = tiny_model("with_mlps")
    tokens = random_tokens(model, n_examples=2)
    cache = model.run_with_cache(tokens)[1]
    bias = cache["pattern", 1][:, HEAD].sum(dim=-1)  # 1: the value bias is part of the output
    assert torch.allclose(bias, torch.ones_like(bias))
    written = cache["z", 1][:, :, HEAD] @ model.blocks[1].attn.W_O[HEAD]
    logits = ((written - written.mean(dim=-1, keepdim=True)) * model.ln_final.w @ model.unembed.W_U).detach()
    expected = mean_over_queries(
        tokens, lambda example, i, at: int(logits[example, i].argmax()) in tokens[example, at].tolist()
    )
    np.testing.assert_allclose(ih.match_terms(model, (1, HEAD), tokens)["copied_first"], expected)


@pytest.mark.parametrize("kind", ["attention_only", "with_mlps", "shortformer"])
def test_pointer_arithmetic_by_split_inputs(kind: str) -> None:
    model, split = tiny_model(kind), split_inputs(kind)
    tokens = random_tokens(model)
    found = ih.pointer_arithmetic(model, tokens, duplicates=["L0H0", "L0H3", "L1H2"])
    z = model.run_with_cache(tokens)[1]["z", 0].detach()
    change = sum(z[:, :, head] @ model.blocks[0].attn.W_O[head] for head in (0, 3)).detach()
    pattern, _ = patched(split, tokens, "q", change)
    expected = np.mean(slow_prefix_matching(pattern, tokens))
    np.testing.assert_allclose(found["without_duplicates"][1, HEAD], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["prefix_matching"], ih.prefix_matching_score(model, tokens), rtol=0, atol=1e-9)
    scan = ih.prefix_matching_offset_scan(model, tokens, [-1])[0]
    np.testing.assert_allclose(found["duplicate_token"], scan, rtol=0, atol=1e-9)
    by_key, names = ih.attention_score_terms(model, (1, HEAD), tokens), term_names(model, 1)
    of_positions = by_key[names.index("positions")] + by_key[names.index("biases")]
    visible = head_visible(model, tokens)
    expected = np.mean(slow_prefix_matching(of_positions.masked_fill(~visible, -torch.inf).softmax(dim=-1), tokens))
    np.testing.assert_allclose(found["positional_keys"][1, HEAD], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["with_mlps", "rms_grouped", "smeared_rotary_grouped", "local"])
def test_wiring_by_clamps_and_split_inputs(kind: str) -> None:
    model, split = tiny_model(kind), split_inputs(kind)
    tokens = random_tokens(model)
    evals = ih.EvalSet.from_tokens(random_tokens(model, seed=4), seed=0)
    found = ih.head_wiring(model, "L0H2", (1, HEAD), evals, tokens=tokens).set_index("removed_from")
    assert tuple(found.index) == PATHS
    whole = ih.token_losses(model, evals, keep="all").full.mean("context_index").to_numpy()
    with ih.clamp(model, ih.ZeroHead("L0H2")):
        ablated = ih.token_losses(model, evals, keep="all").full.mean("context_index").to_numpy()
        matching = float(ih.prefix_matching_score(model, tokens)[1, HEAD])
    assert found["loss"]["nothing"] == pytest.approx(whole.mean(), abs=1e-9)
    assert found["cost"]["everything"] == pytest.approx((ablated - whole).mean(), abs=1e-9)
    assert found["cost_stderr"]["everything"] == pytest.approx((ablated - whole).std(ddof=1) / 3**0.5, abs=1e-9)
    assert found["prefix_matching"]["everything"] == pytest.approx(matching, abs=1e-9)
    z = model.run_with_cache(tokens)[1]["z", 0][:, :, 2] @ model.blocks[0].attn.W_O[2]
    for side, path in (("k", "its keys alone"), ("q", "its queries alone"), ("v", "its values alone")):
        slow = np.mean(slow_prefix_matching(patched(split, tokens, side, z.detach())[0], tokens))
        assert found["prefix_matching"][path] == pytest.approx(slow, abs=1e-9)
    assert found["prefix_matching"]["all but its pattern"] == found["prefix_matching"]["nothing"]


def test_wiring_of_every_head_of_the_last_layer_together_is_that_of_its_layer() -> None:
    """With one head per layer, keeping its pattern or values is what the clamps of whole layers do."""
    model = tiny_model("with_mlps", n_heads=1, d_head=16)
    evals = ih.EvalSet.from_tokens(random_tokens(model), seed=0)
    single = ih.head_wiring(model, "L0H0", "L1H0", evals).set_index("removed_from")["cost"]
    grouped = ih.wiring(model, evals, [["L0H0"]], progress=False).set_index("ablated")["cost"]
    for ours, theirs in (
        ("everything", "everything"),
        ("all but its pattern", "not through patterns"),
        ("all but its values", "not through values"),
    ):
        assert single[ours] == pytest.approx(grouped[theirs], abs=1e-9)


@pytest.mark.parametrize("kind", ["attention_only", "with_mlps", "rms_grouped", "shortformer"])
def test_memories_by_dense_matrices(kind: str) -> None:
    model = tiny_model(kind)
    found = ih.memory_recall(model, (1, HEAD), (0, 2), tokens=list(range(5, 30)), n_pos=20)
    embedded = model.embed.W_E[5:30].detach()
    is_centred, d_model = str(model.cfg.normalization_type).startswith("LN"), model.cfg.d_model
    centre = torch.eye(d_model).double() - (1 / d_model if is_centred else 0)
    reads = [centre @ block.ln1.w.detach().diag() for block in model.blocks]
    first, second = (
        [(reads[layer] @ matrix[head].detach()) for matrix in (b.W_Q, b.W_K, b.W_V)]
        for layer, (b, head) in enumerate(((model.blocks[0].attn, 2), (model.blocks[1].attn, HEAD)))
    )
    written = embedded @ first[2] @ model.blocks[0].attn.W_O[2].detach()
    keys = [(row @ second[0] @ (written @ second[1]).T).argmax().item() for row in embedded]
    unembed = centre @ model.ln_final.w.detach().diag() @ model.unembed.W_U.detach()
    logits = embedded @ second[2] @ model.blocks[1].attn.W_O[HEAD].detach() @ unembed
    logits = (logits - logits.mean(dim=-1, keepdim=True))[:, 5:30]
    assert float(found.sel(memory="key")) == np.mean([key == place for place, key in enumerate(keys)])
    assert float(found.sel(memory="output")) == float((logits.argmax(dim=-1) == torch.arange(25)).double().mean())
    if kind == "rms_grouped":
        assert bool(found.sel(memory="position").isnull())
        return
    positions = model.pos_embed.W_pos[:20].detach()
    if kind == "shortformer":
        first = [matrix[2].detach() for matrix in (model.blocks[0].attn.W_Q, model.blocks[0].attn.W_K)]
    scores = positions @ first[0] @ (positions @ first[1]).T
    hits = [int(scores[i, : i + 1].argmax()) == i - 1 for i in range(1, 20)]
    assert float(found.sel(memory="position")) == np.mean(hits)


@pytest.mark.parametrize("kind", ["with_mlps", "smeared_rotary_grouped"])
def test_batches_and_seeds(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=5)
    xr.testing.assert_allclose(
        ih.match_terms(model, (1, HEAD), tokens), ih.match_terms(model, (1, HEAD), tokens, batch_size=2), atol=1e-12
    )
    for replace in ("zero", "mean"):
        whole = ih.path_effects(model, (1, HEAD), tokens, replace=replace)
        parts = ih.path_effects(model, (1, HEAD), tokens, replace=replace, batch_size=2)
        xr.testing.assert_allclose(whole, parts, atol=1e-12)
    again = [str(ih.explain_head(model, (1, HEAD), n_examples=3, seed=seed)) for seed in (1, 1, 2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("kind", ["attention_only", "with_mlps", "parallel"])
def test_the_same_however_the_weights_were_processed(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    expected = ih.path_effects(model, (1, HEAD), tokens)["without"]
    for options in ({"fold_ln": True}, {"fold_ln": True, "center_writing_weights": True, "center_unembed": True}):
        changed = ih.path_effects(processed(model, **options), (1, HEAD), tokens)["without"]
        np.testing.assert_allclose(changed, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_less_precise_models(dtype: torch.dtype) -> None:
    model = tiny_model("with_mlps", dtype=dtype)
    tokens = random_tokens(model)
    found = ih.match_terms(model, (1, HEAD), tokens)
    np.testing.assert_allclose(
        found["pairs"].sum(), found["match"].mean(), atol=0.1 if dtype is torch.bfloat16 else 1e-4
    )
    exact = ih.match_terms(model.to(torch.float64), (1, HEAD), tokens)
    np.testing.assert_allclose(found["pairs"], exact["pairs"], atol=0.2 if dtype is torch.bfloat16 else 1e-4)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_model("with_mlps")
    before = copy.deepcopy(model.state_dict())
    model.train()
    ih.explain_head(model, (1, HEAD), n_examples=2)
    ih.head_wiring(model, "L0H0", (1, HEAD), n_examples=2)
    assert model.training
    assert torch.is_grad_enabled()
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_whose_scores_are_no_sums_are_refused(tmp_path: Path) -> None:
    capped = tiny_model("with_mlps", attn_scores_soft_cap=20.0)
    for call in (ih.match_terms, ih.path_effects, ih.explain_head):
        with pytest.raises(ih.CapabilityError, match="caps its attention scores"):
            call(capped, (1, HEAD))
    with pytest.raises(ih.CapabilityError, match="norms after attention"):
        ih.match_terms(tiny_model("rms_grouped", use_normalization_before_and_after=True), (1, HEAD))
    with pytest.raises(ih.CapabilityError, match="keys that hold positions"):
        ih.pointer_arithmetic(tiny_model("rotary"))
    with pytest.raises(ih.CapabilityError, match="is no HookedTransformer"):
        ih.explain_head(tiny_bridge("gpt2", tmp_path), "L1H0")
    hooked = tiny_model("with_mlps")
    hooked.add_hook("blocks.1.attn.hook_q", lambda queries, hook: 2 * queries)
    with pytest.raises(ih.CapabilityError, match="not the sum of what its head reads"):
        ih.match_terms(hooked, (1, HEAD), random_tokens(hooked))


def test_bad_input_is_explained() -> None:
    model = tiny_model("with_mlps")
    distinct = torch.arange(20)[None]
    for call, message in (
        (lambda: ih.match_terms(model, "L9H0"), "does not exist"),
        (lambda: ih.match_terms(model, "L1H0", distinct), "none recurs"),
        (lambda: ih.path_effects(model, "L1H0", replace="noise"), "replace: expected one of"),
        (lambda: ih.path_effects(model, "L1H0", ln_scale="new"), "ln_scale: expected one of"),
        (lambda: ih.path_controls(model, "L1H0", [("k", "L1H2")]), "does not exist"),
        (lambda: ih.path_controls(model, "L1H0", [("o", "L0H2")]), "side: expected one of"),
        (lambda: ih.head_wiring(model, "L1H0", "L0H0"), "expected an earlier head"),
        (lambda: ih.memory_recall(model, "L0H0", "L1H0"), "a layer before"),
        (lambda: ih.memory_recall(model, "L1H0", "L0H0", tokens=[3, 3]), "different ids"),
        (lambda: ih.memory_recall(model, "L1H0", "L0H0", tokens=[99]), "outside the vocabulary"),
        (lambda: ih.pointer_arithmetic(model, threshold=0.0), "threshold"),
        (lambda: ih.explain_head(model, "L1H0", n_partners=0), "n_partners"),
    ):
        with pytest.raises(ih.InputError, match=message):
            call()
