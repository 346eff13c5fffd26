import copy

import pytest
import torch
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

import ih_lens as ih
from ih_lens.models.smeared_keys import smear_keys
from tests.helpers import random_tokens, tiny_model

KINDS = ["shortformer", "attention_only", "with_mlps", "rotary", "alibi", "rms_grouped", "local", "no_norm"]


def _slowly_smeared(keys: Tensor, alpha: Tensor) -> Tensor:
    """The paper's sentence, position by position."""
    smeared = keys.clone()
    for pos in range(1, keys.shape[1]):
        for head in range(keys.shape[2]):
            share = 1 / (1 + torch.exp(-alpha[head]))
            smeared[:, pos, head] = share * keys[:, pos, head] + (1 - share) * keys[:, pos - 1, head]
    return smeared


def test_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 7, 3, 4, generator=generator, dtype=torch.float64)
    alpha = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(smear_keys(keys, alpha), _slowly_smeared(keys, alpha))
    assert torch.equal(smear_keys(keys, alpha)[:, 0], keys[:, 0])


def test_one_key_has_nothing_before_it() -> None:
    keys = torch.ones(1, 1, 2, 3)
    assert torch.equal(smear_keys(keys, torch.zeros(2)), keys)


@pytest.mark.parametrize("kind", KINDS)
def test_sigmoid_of_one_is_the_plain_model(kind: str) -> None:
    plain, smeared = tiny_model(kind), tiny_model(kind, smeared=True)
    smeared.load_state_dict(plain.state_dict(), strict=False)
    tokens = random_tokens(plain)
    for block in smeared.blocks:
        block.attn.alpha.data.fill_(-0.5)
    assert (smeared(tokens) - plain(tokens)).abs().max() > 1e-3
    for block in smeared.blocks:
        block.attn.alpha.data.fill_(torch.inf)
    torch.testing.assert_close(smeared(tokens), plain(tokens), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["smeared", "smeared_rotary_grouped"])
def test_hooks_show_raw_and_smeared_keys(kind: str) -> None:
    model = tiny_model(kind)
    _, cache = model.run_with_cache(random_tokens(model))
    for layer, block in enumerate(model.blocks):
        raw, smeared = cache[f"blocks.{layer}.attn.hook_k"], cache[f"blocks.{layer}.attn.hook_smeared_k"]
        assert smeared.shape == raw.shape
        assert (smeared - raw).abs().max() > 1e-3
        torch.testing.assert_close(smeared, _slowly_smeared(raw, block.attn.alpha))


def test_rotation_comes_after_smearing() -> None:
    model = tiny_model("smeared_rotary_grouped")
    _, cache = model.run_with_cache(random_tokens(model))
    smeared, rotated = cache["blocks.0.attn.hook_smeared_k"], cache["blocks.0.attn.hook_rot_k"]
    torch.testing.assert_close(rotated, model.blocks[0].attn.apply_rotary(smeared))


def test_normalisation_of_keys_comes_before_smearing() -> None:
    model = tiny_model("smeared", use_qk_norm=True)
    attention = model.blocks[0].attn
    _, cache = model.run_with_cache(random_tokens(model))
    raw = cache["blocks.0.attn.hook_k"]
    normalized = attention.k_norm(raw.reshape(-1, raw.shape[-1])).reshape(raw.shape)
    torch.testing.assert_close(cache["blocks.0.attn.hook_smeared_k"], _slowly_smeared(normalized, attention.alpha))


def test_edits_of_smeared_keys_change_the_output() -> None:
    model = tiny_model("smeared")
    tokens = random_tokens(model)
    edited = model.run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.attn.hook_smeared_k", lambda keys, hook: torch.zeros_like(keys))]
    )
    assert (edited - model(tokens)).abs().max() > 1e-3


def test_alpha_has_one_entry_per_head_with_keys_of_its_own() -> None:
    assert tiny_model("smeared").blocks[0].attn.alpha.shape == (4,)
    assert tiny_model("smeared_rotary_grouped").blocks[0].attn.alpha.shape == (2,)
    untrained = ih.build_model(ih.attention_only(2, d_model=16, n_heads=4), smeared_keys=True)
    assert not any(block.attn.alpha.any() for block in untrained.blocks)


def test_ungrouped_keys_are_smeared_alike() -> None:
    model = tiny_model("smeared_rotary_grouped")
    tokens = random_tokens(model)
    grouped = model(tokens)
    model.set_ungroup_grouped_query_attention(True)
    torch.testing.assert_close(model(tokens), grouped)


@pytest.mark.parametrize("kind", ["smeared", "smeared_rotary_grouped"])
def test_gradients_reach_alpha(kind: str) -> None:
    model = tiny_model(kind)
    model(random_tokens(model), return_type="loss").backward()
    assert all((block.attn.alpha.grad != 0).all() for block in model.blocks)


@pytest.mark.parametrize("kind", ["smeared", "smeared_rotary_grouped"])
@pytest.mark.parametrize("frozen", [False, True])
def test_token_by_token_with_a_cache_equals_all_at_once(kind: str, frozen: bool) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, length=12)
    expected = model(tokens)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    pieces = [tokens[:, :5], *tokens[:, 5:].split(1, dim=1)]
    logits = [model(piece, past_kv_cache=cache, attention_mask=torch.ones_like(piece)) for piece in pieces[:-1]]
    if frozen:
        cache.freeze()
    logits.append(model(pieces[-1], past_kv_cache=cache, attention_mask=torch.ones_like(pieces[-1])))
    torch.testing.assert_close(torch.cat(logits, dim=1), expected)
    assert cache[0].past_keys.shape[1] == (11 if frozen else 12)


def test_generation_with_and_without_a_cache() -> None:
    model = tiny_model("smeared_rotary_grouped")
    arguments = {"max_new_tokens": 10, "do_sample": False, "stop_at_eos": False, "verbose": False}
    prompt = random_tokens(model, length=5)
    slow = model.generate(prompt, use_past_kv_cache=False, **arguments)
    assert slow.shape == (3, 15)
    assert torch.equal(model.generate(prompt, use_past_kv_cache=True, **arguments), slow)


@pytest.mark.parametrize("kind", ["smeared", "smeared_rotary_grouped"])
def test_the_first_token_after_padding_is_not_mixed_with_it(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model, length=8)
    padded = torch.cat([torch.full((3, 4), 7), tokens], dim=1)
    mask = torch.cat([torch.zeros(3, 4, dtype=torch.long), torch.ones_like(tokens)], dim=1)
    torch.testing.assert_close(model(padded, attention_mask=mask)[:, 4:], model(tokens))


@pytest.mark.parametrize("kind", ["smeared", "smeared_rotary_grouped"])
def test_state_dict_and_copy_keep_everything(kind: str) -> None:
    model, other = tiny_model(kind), tiny_model(kind, seed=5)
    tokens = random_tokens(model)
    expected = model(tokens)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(tokens), expected, atol=0, rtol=0)
    copied = copy.deepcopy(model)
    copied.blocks[0].attn.alpha.data += 1
    torch.testing.assert_close(model(tokens), expected, atol=0, rtol=0)
    assert (copied(tokens) - expected).abs().max() > 1e-4
    _, cache = copied.run_with_cache(tokens)
    assert "blocks.0.attn.hook_smeared_k" in cache


def test_weight_processing_keeps_alpha_and_predictions() -> None:
    model = tiny_model("smeared_rotary_grouped", dtype=torch.float32)
    tokens = random_tokens(model)
    expected, alpha = model(tokens).log_softmax(-1), model.blocks[1].attn.alpha.clone()
    model.process_weights_()
    assert model.cfg.normalization_type == "LNPre"
    assert torch.equal(model.blocks[1].attn.alpha, alpha)
    torch.testing.assert_close(model(tokens).log_softmax(-1), expected, atol=1e-4, rtol=1e-4)


def test_has_smeared_keys() -> None:
    assert ih.has_smeared_keys(tiny_model("smeared"))
    assert not ih.has_smeared_keys(tiny_model("shortformer"))
    assert not ih.has_smeared_keys(object())
