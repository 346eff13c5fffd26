import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, fused_logits, random_tokens, tiny_model


@pytest.mark.parametrize("kind", ZOO)
def test_agrees_with_the_hooked_forward_and_its_gradients(kind):
    model = tiny_model(kind)
    tokens = random_tokens(model)
    weights = torch.randn(3, 20, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = model(tokens)
    torch.testing.assert_close(fused_logits(model, tokens), expected, rtol=0, atol=1e-9)
    names, parameters = zip(*model.named_parameters(), strict=True)
    slow = torch.autograd.grad((expected * weights).sum(), parameters, materialize_grads=True)
    fast = torch.autograd.grad((fused_logits(model, tokens) * weights).sum(), parameters, materialize_grads=True)
    for name, one, other in zip(names, fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["shortformer", "rms_grouped", "smeared_rotary_grouped"])
def test_agrees_in_float32(kind):
    model = tiny_model(kind, dtype=torch.float32)
    tokens = random_tokens(model)
    torch.testing.assert_close(fused_logits(model, tokens), model(tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("normalization", ["LNPre", "RMSPre", "RMS"])
def test_other_normalizations(normalization):
    model = tiny_model("with_mlps", normalization_type=normalization)
    tokens = random_tokens(model)
    torch.testing.assert_close(fused_logits(model, tokens), model(tokens), rtol=0, atol=1e-9)


def test_scale_by_layer_and_unscaled_attention():
    model = tiny_model("attention_only", scale_attn_by_inverse_layer_idx=True, use_attn_scale=False)
    tokens = random_tokens(model)
    torch.testing.assert_close(fused_logits(model, tokens), model(tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_scores_soft_cap": 10.0}, "soft-capped"),
        ({"attention_dir": "bidirectional"}, "both directions"),
        ({"use_qk_norm": True}, "normalised queries"),
        ({"act_fn": "solu_ln"}, "MLP modules"),
    ],
)
def test_refuses_what_it_does_not_cover(changes, message):
    model = tiny_model("with_mlps", **changes)
    with pytest.raises(ih.CapabilityError, match=message):
        fused_logits(model, random_tokens(model))


def test_refuses_a_changed_layer():
    model = tiny_model("attention_only")

    class OtherAttention(type(model.blocks[0].attn)):
        pass

    model.blocks[1].attn.__class__ = OtherAttention
    with pytest.raises(ih.CapabilityError, match="OtherAttention"):
        fused_logits(model, random_tokens(model))


def test_runs_no_hooks():
    model = tiny_model("shortformer")
    model.add_hook("blocks.0.attn.hook_q", lambda value, hook: value * 0)
    plain = tiny_model("shortformer")
    tokens = random_tokens(model)
    torch.testing.assert_close(fused_logits(model, tokens), fused_logits(plain, tokens))
