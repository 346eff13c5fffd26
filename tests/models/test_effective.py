import copy
from typing import Any

import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

import ih_lens as ih
from ih_lens.models.effective import EffectiveWeights
from tests.helpers import ZOO, random_tokens, tiny_model

MATRICES = ["W_E", "W_Q", "W_K", "W_V", "W_O", "W_U"]
OFF = {"fold_ln": False, "center_writing_weights": False, "center_unembed": False, "fold_value_biases": False}
WAYS: dict[str, dict[str, bool]] = {
    "plain": OFF,
    "fold_ln": {**OFF, "fold_ln": True},
    "center_writing_weights": {**OFF, "center_writing_weights": True},
    "center_unembed": {**OFF, "center_unembed": True},
    "fold_value_biases": {**OFF, "fold_value_biases": True},
    "all": dict.fromkeys(OFF, True),
}
FOLDABLE = ["attention_only", "with_mlps", "rotary", "alibi", "parallel", "rms_grouped", "three_layers"]


def _processed(model: HookedTransformer, way: dict[str, bool]) -> HookedTransformer:
    processed = copy.deepcopy(model)
    processed.load_and_process_state_dict(dict(model.state_dict()), **way)
    return processed


def _largest_difference(first: EffectiveWeights, second: EffectiveWeights) -> float:
    return max(float((getattr(first, name) - getattr(second, name)).abs().max()) for name in MATRICES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FOLDABLE)
def test_same_weights_however_loaded(kind: str, way: str) -> None:
    model = tiny_model(kind, dtype=torch.float32)
    processed = _processed(model, WAYS[way])
    assert _largest_difference(ih.effective_weights(model), ih.effective_weights(processed)) < 1e-5


@pytest.mark.parametrize("kind", FOLDABLE)
def test_processing_changes_the_raw_weights_by_far_more(kind: str) -> None:
    model = tiny_model(kind, dtype=torch.float32)
    processed = _processed(model, WAYS["all"])
    assert (model.W_V - processed.W_V).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["attention_only", "rms_grouped", "no_norm", "smeared_rotary_grouped"])
@pytest.mark.parametrize("way", ["plain", "all"])
def test_values_are_matrix_plus_constant(kind: str, way: str) -> None:
    model = tiny_model(kind)
    if way == "all":
        model.process_weights_()
    weights = ih.effective_weights(model)
    tokens = random_tokens(model)
    _, cache = model.run_with_cache(tokens)
    for layer in range(model.cfg.n_layers):
        residual = cache[f"blocks.{layer}.hook_resid_pre"]
        scale = cache[f"blocks.{layer}.ln1.hook_scale"] if model.cfg.normalization_type else 1.0
        values = torch.einsum("bpm,hmd->bphd", residual / scale, weights.W_V[layer]) + weights.value_bias[layer]
        actual = cache[f"blocks.{layer}.attn.hook_v"].repeat_interleave(4 // (model.cfg.n_key_value_heads or 4), dim=2)
        torch.testing.assert_close(values, actual)


def test_values_less_their_constant_do_not_depend_on_folding() -> None:
    model = tiny_model("with_mlps", dtype=torch.float32)
    tokens = random_tokens(model)
    found = []
    for way in ("plain", "all"):
        processed = _processed(model, WAYS[way])
        _, cache = processed.run_with_cache(tokens)
        found.append(cache["blocks.1.attn.hook_v"] - ih.effective_weights(processed).value_bias[1])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ZOO)
def test_logits_are_matrix_plus_constant(kind: str) -> None:
    model = tiny_model(kind)
    weights = ih.effective_weights(model)
    logits, cache = model.run_with_cache(random_tokens(model))
    scale = cache["ln_final.hook_scale"] if model.cfg.normalization_type else 1.0
    residual = cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"] / scale
    rest = logits - logits.mean(-1, keepdim=True) - residual @ weights.W_U
    torch.testing.assert_close(rest, rest[:1, :1].expand_as(rest))
    assert weights.W_U.mean(-1).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["rms_grouped", "smeared_rotary_grouped"])
def test_grouped_queries_share_keys_and_values(kind: str) -> None:
    weights = ih.effective_weights(tiny_model(kind))
    assert weights.W_K.shape == weights.W_V.shape == weights.W_Q.shape == (2, 4, 16, 4)
    for shared in (weights.W_K, weights.W_V, weights.value_bias):
        assert torch.equal(shared[:, 0], shared[:, 1])
        assert not torch.equal(shared[:, 1], shared[:, 2])


def test_queries_and_keys_carry_the_gains_of_their_norms() -> None:
    model = tiny_model("attention_only", use_qk_norm=True)
    plain = ih.effective_weights(model)
    attention = model.blocks[0].attn
    attention.q_norm.w.data *= torch.arange(1, 5)
    attention.k_norm.w.data *= 3
    weights = ih.effective_weights(model)
    torch.testing.assert_close(weights.W_Q[0], plain.W_Q[0] * torch.arange(1, 5))
    torch.testing.assert_close(weights.W_K[0], plain.W_K[0] * 3)
    assert torch.equal(weights.W_Q[1], plain.W_Q[1])


def test_a_norm_of_embeddings_is_folded_into_them() -> None:
    model = tiny_model("attention_only", post_embedding_ln=True)
    gain = model.embed.ln.w.detach()
    expected = (model.W_E - model.W_E.mean(-1, keepdim=True)) * gain
    found = ih.effective_weights(model).W_E
    torch.testing.assert_close(found, expected - expected.mean(-1, keepdim=True))


def test_a_final_rms_norm_reads_the_mean() -> None:
    model = tiny_model("attention_only", final_rms=True)
    weights = ih.effective_weights(model)
    expected = model.W_U * model.ln_final.w[:, None]
    torch.testing.assert_close(weights.W_U, expected - expected.mean(-1, keepdim=True))
    assert torch.equal(weights.W_O, model.W_O)


def test_half_precision_is_folded_in_float32_and_nothing_is_changed() -> None:
    model = tiny_model("with_mlps", dtype=torch.bfloat16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = ih.effective_weights(model)
    assert {getattr(weights, name).dtype for name in MATRICES} == {torch.float32}
    assert not any(getattr(weights, name).requires_grad for name in MATRICES)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "changes",
    [
        {"use_normalization_before_and_after": True, "normalization_type": "RMS"},
        {"original_architecture": "Olmo2ForCausalLM", "normalization_type": "RMS"},
    ],
)
def test_norms_after_attention_are_refused(changes: dict[str, Any]) -> None:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, n_heads=2, d_head=4, n_ctx=8, d_vocab=9, d_mlp=8, act_fn="relu", device="cpu", **changes
    )
    with pytest.raises(ih.CapabilityError, match="norms after attention"):
        ih.effective_weights(ih.build_model(cfg))
