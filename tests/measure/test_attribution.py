from pathlib import Path

import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.twins import patterns, processed, source_logits
from tests.models.bridges import tiny_bridge


def centred_next_logits(model, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens).detach()
    logits = logits - logits.mean(dim=-1, keepdim=True)
    return logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def final_scale(model, tokens: torch.Tensor) -> torch.Tensor:
    if model.cfg.normalization_type is None:
        return torch.ones(tokens.shape[0], tokens.shape[1], dtype=torch.float64)
    return model.run_with_cache(tokens)[1]["ln_final.hook_scale"][..., 0].detach()


@pytest.mark.parametrize("ln_scale", [True, False])
@pytest.mark.parametrize("kind", ZOO)
def test_agrees_with_the_definition_on_any_model(kind: str, ln_scale: bool) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, n_examples=2, length=8)
    pattern, logits, scale = patterns(model, tokens), source_logits(model, tokens), final_scale(model, tokens)
    slow = torch.zeros(2, model.cfg.n_layers, model.cfg.n_heads, 7, 7, dtype=torch.float64)
    for e in range(2):
        for dest in range(7):
            for src in range(dest + 1):
                term = pattern[e, :, :, dest, src] * logits[e, :, :, src, tokens[e, dest + 1]]
                slow[e, :, :, dest, src] = term / (scale[e, dest] if ln_scale else 1)
    attribution = ih.logit_attribution(model, tokens, ln_scale=ln_scale)
    torch.testing.assert_close(attribution, slow, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ZOO)
def test_terms_sum_to_the_centred_logit(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    terms = ih.logit_terms(model, tokens)
    torch.testing.assert_close(terms.total, centred_next_logits(model, tokens), rtol=0, atol=1e-9)
    by_source = ih.logit_attribution(model, tokens)
    torch.testing.assert_close(by_source.sum(dim=-1), terms.heads, rtol=0, atol=1e-9)
    assert terms.mlps.shape[1] == (0 if model.cfg.attn_only else model.cfg.n_layers)
    assert bool(terms.positional.any()) == (model.cfg.positional_embedding_type == "standard")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_terms_of_a_bridge_sum_to_the_centred_logit(kind: str, tmp_path: Path) -> None:
    model = tiny_bridge(kind, tmp_path)
    tokens = random_tokens(model)
    logits = centred_next_logits(model, tokens)
    torch.testing.assert_close(ih.logit_terms(model, tokens).total, logits, rtol=0, atol=1e-5)


def test_terms_are_in_float32_for_half_precision() -> None:
    model = tiny_model("with_mlps", dtype=torch.bfloat16)
    tokens = random_tokens(model)
    terms = ih.logit_terms(model, tokens)
    assert terms.heads.dtype == ih.logit_attribution(model, tokens).dtype == torch.float32
    torch.testing.assert_close(terms.total, centred_next_logits(model, tokens).float(), rtol=0, atol=0.2)


def test_embedding_term_is_the_direct_path() -> None:
    model = tiny_model("no_norm")
    tokens = random_tokens(model)
    direct = model.embed.W_E @ model.unembed.W_U
    direct = (direct - direct.mean(dim=-1, keepdim=True)).detach()
    expected = direct[tokens[:, :-1], tokens[:, 1:]]
    torch.testing.assert_close(ih.logit_terms(model, tokens).embedding, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["attention_only", "with_mlps", "rms_grouped"])
def test_head_terms_do_not_depend_on_how_the_weights_were_processed(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    expected = ih.logit_attribution(model, tokens)
    for options in ({"fold_ln": True}, {"fold_value_biases": True}, {"center_unembed": True}):
        attribution = ih.logit_attribution(processed(model, **options), tokens)
        torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5)


def test_chosen_layers_come_in_their_order_and_batches_do_not_matter() -> None:
    model = tiny_model("three_layers")
    tokens = random_tokens(model, n_examples=5)
    whole = ih.logit_attribution(model, tokens)
    chosen = ih.logit_attribution(model, tokens, layers=[2, 0], batch_size=2)
    torch.testing.assert_close(chosen, whole[:, [2, 0]], rtol=0, atol=1e-12)
    terms = ih.logit_terms(model, tokens, batch_size=2)
    torch.testing.assert_close(terms.total, ih.logit_terms(model, tokens).total, rtol=0, atol=1e-12)


def test_models_whose_logits_are_no_sum_are_refused() -> None:
    for changes, reason in (
        ({"output_logits_soft_cap": 30.0}, "caps its logits"),
        ({"d_vocab_out": 12}, "40 input and 12 output tokens"),
    ):
        model = tiny_model("with_mlps", **changes)
        for measure in (ih.logit_attribution, ih.logit_terms):
            with pytest.raises(ih.CapabilityError, match=reason):
                measure(model, random_tokens(model))
    model = tiny_model("rms_grouped", use_normalization_before_and_after=True)
    with pytest.raises(ih.CapabilityError, match="norms after attention"):
        ih.logit_attribution(model, random_tokens(model))


def test_bad_input_is_explained() -> None:
    model = tiny_model("attention_only")
    for layers in ([], [2], [0, 0]):
        with pytest.raises(ih.InputError, match="layers: expected different numbers from 0 to 1"):
            ih.logit_attribution(model, random_tokens(model), layers=layers)
    with pytest.raises(ih.InputError, match="at least 2 tokens"):
        ih.logit_terms(model, torch.tensor([[1]]))
