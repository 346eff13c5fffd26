"""Conversions give the original's logits, or are refused; the original stays as it was."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge
from transformers import BertConfig, BertLMHeadModel, PreTrainedModel, T5Config, T5ForConditionalGeneration

import ih_lens as ih
from ih_lens.models.conversion import Parts, assemble, take_apart
from ih_lens.models.huggingface import to_hooked
from ih_lens.models.same_logits import largest_difference, probe_tokens
from tests.models.huggingface_models import ARCHITECTURES, D_VOCAB, N_CTX, WINDOW, huggingface_model, save_huggingface

REFUSED = {
    "llama_linear_rope": "converts LlamaForCausalLM wrongly",
    "llama_biased": "converts LlamaForCausalLM wrongly",
    "opt_post_norm": "normalises after each sublayer",
    "olmo2_grouped": r"converts Olmo2ForCausalLM wrongly: blocks\.0\.attn\._W_K is missing",
    "falcon": "FalconForCausalLM, which TransformerLens 3.9",
}
"""What TransformerLens gets wrong or cannot do, and how that is said."""
CONVERTED = [kind for kind in ARCHITECTURES if kind not in REFUSED]
MAIN = ["gpt2", "gpt_neox", "llama", "gpt_neo", "opt"]
EXPERTS = {"mixtral", "olmoe", "gpt_oss"}
"""transformers runs mixtures of experts in single and half precision only."""


def _tokens() -> torch.Tensor:
    """As long as the context, so that it is longer than local windows."""
    return torch.randint(0, D_VOCAB, (2, N_CTX), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _largest(model: HookedTransformer, original: PreTrainedModel) -> float:
    return float((model(_tokens()) - original(_tokens()).logits).abs().max())


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_saved_model_gives_the_originals_logits(kind: str, tmp_path: Path) -> None:
    original = save_huggingface(tmp_path, kind)
    model = ih.load_model(tmp_path)
    assert model.cfg.n_ctx >= N_CTX
    assert _largest(model, original) < 1e-4
    told = ih.origin_of(model)
    assert told is not None
    assert told.largest_difference is not None
    assert told.largest_difference < 1e-4


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_converted_wrongly_is_refused(kind: str, tmp_path: Path) -> None:
    original = save_huggingface(tmp_path, kind)
    with pytest.raises(ih.CapabilityError, match=REFUSED[kind]):
        ih.load_model(original)
    with pytest.raises(ih.CapabilityError, match=REFUSED[kind].replace(type(original).__name__, ".*")):
        ih.load_model(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in CONVERTED if kind not in EXPERTS])
def test_double_precision_is_kept(kind: str) -> None:
    """transformers computes rotations and norms of some in float32 in any case, so the values themselves are held."""
    original = huggingface_model(kind, dtype=torch.float64)
    model, _ = to_hooked(original)
    assert _largest(model, original) < (1e-9 if kind in {"gpt2", "opt", "opt_relu"} else 1e-4)
    if kind in MAIN:
        values = {value for weight in original.parameters() for value in weight.flatten().tolist()}
        for name, weight in model.named_parameters():
            if not ("b_" in name and not weight.any()) and not ("ln" in name and weight.min() == 1):
                assert set(weight.flatten().tolist()) <= values, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MAIN)
def test_half_precision_passes_the_comparison(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    original = save_huggingface(tmp_path, kind)
    model = ih.load_model(tmp_path, dtype=dtype)
    assert model.W_E.dtype == model.cfg.dtype == dtype
    expected = original(_tokens()).logits
    assert (model(_tokens()).float() - expected).abs().mean() < 0.02 * expected.std()
    assert ih.load_model(original, dtype=dtype).W_E.dtype == dtype


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_live_model_stays_as_it_was(kind: str) -> None:
    original = huggingface_model(kind).train()
    frozen = next(original.parameters()).requires_grad_(False)
    attention = original.config._attn_implementation
    before, state = copy.deepcopy(original.state_dict()), torch.get_rng_state()
    model = ih.load_model(original)
    for weight in model.parameters():
        weight.data.fill_(3.0)
    assert all(torch.equal(before[name], weight) for name, weight in original.state_dict().items())
    assert all(parameter.requires_grad is not (parameter is frozen) for parameter in original.parameters())
    assert all(module.training for module in original.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert original.config._attn_implementation == attention
    assert not model.training


@pytest.mark.parametrize("kind", ["gemma2", "llama"])
def test_live_models_are_compared_with_the_attention_that_they_describe(kind: str) -> None:
    """By default `sdpa`: for Gemma-2 up to some version of transformers, where it leaves out the soft cap."""
    original = huggingface_model(kind, dtype=torch.float64, attn_implementation=None)
    attention = original.config._attn_implementation
    assert kind == "gemma2" or attention == "sdpa"
    model, difference = to_hooked(original)
    assert difference < 1e-4
    assert original.config._attn_implementation == attention
    original.set_attn_implementation("eager")
    assert _largest(model, original) < 1e-4


@pytest.mark.parametrize("kind", [*MAIN, "gemma2", "qwen3", "phi"])
def test_processed_models_predict_the_same(kind: str) -> None:
    original = huggingface_model(kind)
    before = copy.deepcopy(original.state_dict())
    plain, model = ih.load_model(original), ih.load_model(original, process=True)
    assert model.cfg.normalization_type == f"{plain.cfg.normalization_type}Pre"
    predictions = [
        logits.log_softmax(-1) for logits in (model(_tokens()), plain(_tokens()), original(_tokens()).logits)
    ]
    assert (predictions[0] - predictions[2]).abs().max() < 1e-4
    assert (predictions[1] - predictions[2]).abs().max() < 1e-4
    assert all(torch.equal(before[name], weight) for name, weight in original.state_dict().items())
    told = ih.origin_of(model)
    assert told is not None
    assert told.processed


def test_models_with_norms_after_attention_are_not_processed() -> None:
    with pytest.raises(ih.CapabilityError, match=r"norms after attention can be neither folded nor centred"):
        ih.load_model(huggingface_model("olmo3"), process=True)


def _taken_apart(**changes: Any) -> Parts:
    parts = take_apart(huggingface_model("gpt2"), name="mine", device="cpu", dtype=torch.float32)
    vars(parts.cfg).update(changes)
    return parts


def _compared(parts: Parts) -> float:
    return largest_difference(assemble(parts), parts.tokens, parts.logits, name="mine")


@pytest.mark.parametrize("changes", [{"act_fn": "gelu"}, {"eps": 1e-3}, {"use_attn_scale": False}])
def test_a_subtle_mistake_is_not_taken_for_rounding(changes: dict[str, Any]) -> None:
    assert _compared(_taken_apart()) < 1e-4
    with pytest.raises(ih.CapabilityError, match=r"converts mine wrongly.*differ from the original's by up to"):
        _compared(_taken_apart(**changes))


def test_one_head_without_its_bias_is_noticed() -> None:
    parts = _taken_apart()
    parts.weights["blocks.1.attn.b_V"] = parts.weights["blocks.1.attn.b_V"].clone()
    parts.weights["blocks.1.attn.b_V"][2] = 0
    with pytest.raises(ih.CapabilityError, match="converts mine wrongly"):
        _compared(parts)


def test_models_that_round_coarsely_are_not_refused_for_it() -> None:
    """A huge activation that the last norm cannot remove makes float32 as coarse as half precision."""
    original = huggingface_model("gpt2")
    original.get_parameter("transformer.h.0.mlp.c_proj.bias").data += 3000.0
    model, difference = to_hooked(original)
    assert difference > 1e-4
    with torch.no_grad():
        assert (model(_tokens()) - original(_tokens()).logits).abs().max() < 0.5


def test_logits_that_are_not_numbers_are_refused() -> None:
    original = huggingface_model("gpt2")
    weight = original.get_parameter("transformer.h.0.ln_1.weight").data
    weight[0] = 3e38  # finite, and nothing behind it is
    with pytest.raises(ih.CapabilityError, match="wrongly: its logits differ from the original's by up to nan"):
        ih.load_model(original)
    weight[0] = float("nan")
    with pytest.raises(ih.NumericsError, match=r"the weights blocks\.0\.ln1\.w hold NaN or infinity"):
        ih.load_model(original)


def test_probes_are_longer_than_local_windows() -> None:
    assert probe_tokens(50, 1024, None).shape == (1, 32)
    assert probe_tokens(50, 1024, 256).shape == (1, 264)
    assert probe_tokens(50, 2048, 4096).shape == (1, 32)
    assert probe_tokens(50, 16, None).shape == (1, 16)


def test_encoders_and_headless_models_are_refused(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    bert = transformers.BertForMaskedLM(BertConfig(**sizes, vocab_size=40))
    t5 = T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=40))
    for number, model in enumerate((bert, t5, BertLMHeadModel(BertConfig(**sizes, vocab_size=40)))):
        model.save_pretrained(tmp_path / str(number))
        for ref in (model, tmp_path / str(number)):
            with pytest.raises(ih.CapabilityError, match="does not predict each token from the tokens before it"):
                ih.load_model(ref)
    headless: Any = huggingface_model("gpt2").base_model
    with pytest.raises(ih.CapabilityError, match="GPT2Model, a model without a language-model head"):
        ih.load_model(headless)


def test_packed_weights_are_refused(tmp_path: Path) -> None:
    original = save_huggingface(tmp_path, "gpt2")
    original.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    original.config.save_pretrained(tmp_path)
    with pytest.raises(ih.CapabilityError, match=r"is quantized \(gptq\)"):
        ih.load_model(tmp_path)
    packed = huggingface_model("gpt2")
    weight = packed.get_submodule("transformer.h.0.attn.c_proj")
    weight.weight = torch.nn.Parameter(torch.zeros(32, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ih.CapabilityError, match=r"c_proj\.weight cannot be read because its dtype is torch\.int8"):
        ih.load_model(packed)


def test_the_temporary_folder_must_not_change_the_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-llama").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "my-llama"))
    with pytest.raises(ih.InputError, match="set TMPDIR"):
        ih.load_model(huggingface_model("gpt2"))


def test_long_contexts_are_cut_unless_asked_for() -> None:
    original = huggingface_model("qwen2", max_position_embeddings=5000)
    assert ih.load_model(original).cfg.n_ctx == 2048
    longer = ih.load_model(original, n_ctx=2500)
    tokens = torch.randint(0, D_VOCAB, (1, 2500), generator=torch.Generator().manual_seed(1))
    assert (longer(tokens) - original(tokens).logits).abs().max() < 1e-4
    assert ih.load_model(huggingface_model("gpt2"), n_ctx=20).W_pos.shape == (20, 32)
    assert ih.load_model(huggingface_model("gpt2"), n_ctx=99).cfg.n_ctx == N_CTX


def test_prefix_matching_is_undefined_where_a_window_is_too_short() -> None:
    model = ih.load_model(huggingface_model("gpt_neo"))
    assert ih.capabilities(model).windows == (None, WINDOW)
    tokens = ih.repeated_random_tokens(model, length=12, repeats=3, n_examples=2)
    scores = ih.prefix_matching_score(model, tokens)
    assert scores[0].isfinite().all()
    assert scores[1].isnan().all()
    near = ih.repeated_random_tokens(model, length=6, repeats=3, n_examples=2)
    assert ih.prefix_matching_score(model, near).isfinite().all()


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind != "opt_post_norm"])
def test_what_is_refused_can_be_measured_on_a_bridge(kind: str, tmp_path: Path) -> None:
    original = save_huggingface(tmp_path, kind)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), device="cpu")
    assert ih.load_model(bridge) is bridge
    tokens = _tokens()[:, :20]
    with torch.no_grad():
        torch.testing.assert_close(bridge(tokens), original(tokens).logits, atol=1e-4, rtol=0)
    assert ih.score_heads(bridge, seed=0).to_tensor("prefix_matching").isfinite().all()
    ablated = ih.ablate_heads(bridge, ih.EvalSet.from_tokens(tokens, seed=0), kind="full")
    assert bool(np.isfinite(ablated.random_token).all())
