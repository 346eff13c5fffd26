import random

import numpy as np
import pytest
import torch

import ih_lens as ih


def test_attention_only_is_the_papers_small_model() -> None:
    cfg = ih.attention_only(n_layers=2)
    assert (cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_head, cfg.d_vocab, cfg.n_ctx) == (2, 256, 8, 32, 4096, 512)
    assert cfg.attn_only
    assert cfg.positional_embedding_type == "shortformer"
    assert cfg.device == "cpu"


def test_with_mlps_has_four_times_the_width() -> None:
    cfg = ih.with_mlps(n_layers=3, d_model=64, n_heads=4)
    assert (cfg.attn_only, cfg.d_mlp, cfg.act_fn) == (False, 256, "gelu_new")
    assert ih.with_mlps(1, d_mlp=10).d_mlp == 10


@pytest.mark.parametrize("positions", ["shortformer", "standard", "rotary"])
def test_every_kind_of_positions_builds_and_runs(positions: str) -> None:
    cfg = ih.attention_only(1, d_model=16, n_heads=2, d_vocab=10, n_ctx=12, positions=positions)
    assert ih.build_model(cfg)(torch.arange(10)[None]).shape == (1, 10, 10)


def test_other_fields_go_to_transformer_lens() -> None:
    cfg = ih.with_mlps(1, n_key_value_heads=2, normalization_type="RMS", dtype=torch.float64, d_head=16)
    assert (cfg.n_key_value_heads, cfg.normalization_type, cfg.dtype, cfg.d_head) == (2, "RMS", torch.float64, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 100, "n_heads": 8}, "choose a multiple, or give d_head="),
        ({"n_layers": 0}, "n_layers: expected an integer of at least 1"),
        ({"d_vocab": 0}, "d_vocab: expected an integer of at least 1"),
        ({"positions": "rotary", "d_model": 24, "n_heads": 8}, "even number of at most d_head=3"),
        ({"n_key_value_heads": 3}, "n_heads=8 must be a multiple of n_key_value_heads=3"),
        ({"seed": 1}, "give seed= to build_model"),
        ({"attn_only": False}, "with_mlps"),
        ({"positional_embedding_type": "rotary"}, "use positions= instead"),
        ({"n_head": 4}, "did you mean n_heads"),
        ({"zzzz": 4}, "has no field 'zzzz'"),
        ({"attn_types": ["global"], "use_local_attn": True, "window_size": 4}, r"one entry per layer \(2\), got 1"),
        ({"use_local_attn": True}, "TransformerLens refuses this configuration: .*window_size"),
    ],
)
def test_errors_say_what_to_do(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ih.InputError, match=message):
        ih.attention_only(**{"n_layers": 2, **arguments})


def test_unknown_positions_are_refused() -> None:
    # beyond the type annotation, which users do not run
    unchecked = getattr(ih.attention_only, "__wrapped__", ih.attention_only)
    with pytest.raises(ih.InputError, match="positions: expected one of shortformer, standard, rotary; got 'learned'"):
        unchecked(2, positions="learned")


def test_no_random_state_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, seed in ((random, "seed"), (np.random, "seed"), (torch, "manual_seed")):
        monkeypatch.setattr(module, seed, None)  # calling it fails
    before = torch.get_rng_state()
    assert ih.with_mlps(2).seed is None
    assert torch.equal(before, torch.get_rng_state())
