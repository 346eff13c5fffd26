import random
import warnings

import numpy as np
import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

import ih_lens as ih
from ih_lens.models.construction import quiet_construction, sinusoids

SMALL = {"d_model": 16, "n_heads": 4, "d_vocab": 11, "n_ctx": 12}


def _weights(**arguments: object) -> dict[str, torch.Tensor]:
    return ih.build_model(ih.attention_only(2, **SMALL), **arguments).state_dict()


def test_one_seed_one_model() -> None:
    first, second, other = _weights(seed=1), _weights(seed=1), _weights(seed=2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embed.W_E"], other["embed.W_E"])


def test_smeared_and_plain_models_share_all_other_weights() -> None:
    plain, smeared = _weights(seed=3), _weights(seed=3, smeared_keys=True)
    assert set(smeared) - set(plain) == {"blocks.0.attn.alpha", "blocks.1.attn.alpha"}
    assert all(torch.equal(plain[name], smeared[name]) for name in plain)


@pytest.mark.parametrize("cfg_seed", [None, 7])
def test_no_global_state_is_touched(cfg_seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = HookedTransformerConfig(n_layers=1, d_head=4, attn_only=True, device="cpu", seed=cfg_seed, **SMALL)
    for module, seed in ((random, "seed"), (np.random, "seed"), (torch, "manual_seed")):
        monkeypatch.setattr(module, seed, None)  # calling it fails
    before = torch.get_rng_state()
    model = ih.build_model(cfg, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert model.cfg is not cfg
    assert (cfg.seed, model.cfg.seed) == (cfg_seed, None)


def test_the_global_seed_does_not_decide_the_weights() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = _weights(seed=0)
        torch.manual_seed(2)
        second = _weights(seed=0)
    assert torch.equal(first["embed.W_E"], second["embed.W_E"])


def test_shortformer_positions_start_as_sinusoids_of_unit_scale() -> None:
    model = ih.build_model(ih.attention_only(1, d_model=64, n_ctx=128))
    assert model.pos_embed.W_pos.detach().square().mean() == pytest.approx(1, abs=0.01)
    random_start = ih.build_model(ih.attention_only(1, d_model=64, n_ctx=128), shortformer_init="random")
    assert random_start.pos_embed.W_pos.detach().std() == pytest.approx(random_start.cfg.initializer_range, rel=0.1)
    assert torch.equal(random_start.embed.W_E, model.embed.W_E)
    standard = ih.build_model(ih.attention_only(1, d_model=64, n_ctx=128, positions="standard"))
    assert torch.equal(standard.pos_embed.W_pos, random_start.pos_embed.W_pos)


def test_sinusoids_by_the_formula() -> None:
    found = sinusoids(5, 6)
    for pos in range(5):
        for pair in range(3):
            angle = pos / 10000 ** (2 * pair / 6)
            expected = 2**0.5 * torch.tensor([np.sin(angle), np.cos(angle)])
            torch.testing.assert_close(found[pos, 2 * pair : 2 * pair + 2].double(), expected, atol=1e-6, rtol=0)
    assert sinusoids(3, 5).shape == (3, 5)


def test_only_the_notice_of_removal_is_hidden() -> None:
    cfg = ih.attention_only(1, **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_construction():
            HookedTransformer(cfg)
            warnings.warn("another one", DeprecationWarning, stacklevel=1)
            warnings.warn("HookedTransformer is deprecated", UserWarning, stacklevel=1)
        HookedTransformer(cfg)
    messages = [str(warning.message)[:30] for warning in caught]
    assert messages == ["another one", "HookedTransformer is deprecate", "HookedTransformer is deprecate"]


def test_the_dtype_and_the_training_mode_are_transformer_lens_own() -> None:
    model = ih.build_model(ih.attention_only(1, **SMALL, dtype=torch.float64), smeared_keys=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
