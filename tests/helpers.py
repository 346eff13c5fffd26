"""Small models of every kind that a measure must handle, built from seeds without any download."""

from typing import Any

import torch
import torch.nn.functional as F
from transformer_lens import HookedTransformer, HookedTransformerConfig

import ih_lens as ih
from ih_lens.models.fused_forward import final_residual, require_fused_forward

_SIZES: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 16,
    "n_heads": 4,
    "d_head": 4,
    "n_ctx": 64,
    "d_vocab": 40,
    "device": "cpu",
    "act_fn": "gelu_new",
    "initializer_range": 0.4,  # large, so that attention is far from uniform and errors show
}

ZOO: dict[str, dict[str, Any]] = {
    "shortformer": {"attn_only": True, "positional_embedding_type": "shortformer"},
    "attention_only": {"attn_only": True},
    "no_norm": {"attn_only": True, "normalization_type": None, "initializer_range": 0.2},
    "with_mlps": {"d_mlp": 32},
    "one_layer": {"attn_only": True, "n_layers": 1},
    "three_layers": {"d_mlp": 32, "n_layers": 3},
    "rotary": {"d_mlp": 32, "positional_embedding_type": "rotary", "rotary_dim": 4},
    "alibi": {"d_mlp": 32, "positional_embedding_type": "alibi"},
    "parallel": {"d_mlp": 32, "parallel_attn_mlp": True, "positional_embedding_type": "rotary", "rotary_dim": 2},
    "rms_grouped": {
        "d_mlp": 32,
        "gated_mlp": True,
        "act_fn": "silu",
        "normalization_type": "RMS",
        "n_key_value_heads": 2,
        "positional_embedding_type": "rotary",
        "rotary_dim": 4,
    },
    "local": {"d_mlp": 32, "use_local_attn": True, "window_size": 8, "attn_types": ["global", "local"]},
    "smeared": {"attn_only": True, "positional_embedding_type": "shortformer", "smeared": True},
    "smeared_rotary_grouped": {
        "attn_only": True,
        "positional_embedding_type": "rotary",
        "rotary_dim": 4,
        "n_key_value_heads": 2,
        "smeared": True,
    },
}
"""What each model differs in; `smeared` asks for smeared keys."""


def tiny_model(kind: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> HookedTransformer:
    """A model of the zoo with random weights, biases, gains and smearing, in float64 unless asked otherwise."""
    settings = {**_SIZES, **ZOO[kind], **changes}
    smeared = settings.pop("smeared", False)
    model = ih.build_model(HookedTransformerConfig(**settings, dtype=dtype), smeared_keys=smeared, seed=seed)
    if dtype.itemsize == 2:  # what torch draws in half precision itself depends on its version
        drawn = ih.build_model(HookedTransformerConfig(**settings), smeared_keys=smeared, seed=seed)
        model.load_state_dict(drawn.state_dict())
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[-1] in {"b", "w", "alpha"} or ".b_" in name or "._b_" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
            parameter.data += 0.3 * noise
    return model


def random_tokens(model: HookedTransformer, n_examples: int = 3, length: int = 20, seed: int = 0) -> torch.Tensor:
    """Uniform token ids, with repeats."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.cfg.d_vocab, (n_examples, length), generator=generator)


def fused_logits(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the forward pass without hooks, of which the package itself needs the loss only."""
    require_fused_forward(model)
    return F.linear(final_residual(model, tokens), model.unembed.W_U.T, model.unembed.b_U)
