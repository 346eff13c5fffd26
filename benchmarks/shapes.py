"""The models that are measured, by name, at their size or tiny, with random weights."""

from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

import ih_lens as ih

_MLPS: dict[str, Any] = {"mlps": True, "n_layers": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "2 layers": {"n_layers": 2},
    "4 layers with MLPs": _MLPS,
    "paper, 2 layers": {"n_layers": 2, "d_model": 768, "n_heads": 12, "d_vocab": 65536},
    "GPT-2 small": {"mlps": True, "n_layers": 12, "d_model": 768, "n_heads": 12, "d_vocab": 50257, "n_ctx": 1024},
    "rotary": {**_MLPS, "positions": "rotary"},
    "RMSNorm": {**_MLPS, "normalization_type": "RMS", "gated_mlp": True, "act_fn": "silu"},
    "grouped-query": {**_MLPS, "n_key_value_heads": 2},
    "local attention": {
        **_MLPS,
        "use_local_attn": True,
        "attn_types": ["global", "local", "global", "local"],
        "window_size": 64,
    },
}
"""What each model has beside d_model 256, 8 heads, a vocabulary of 4096, 512 tokens of context, LayerNorm."""

_TINY: dict[str, Any] = {"d_model": 16, "n_heads": 4, "d_vocab": 61, "n_ctx": 64}


def configuration(name: str, *, tiny: bool = False, device: str = "cpu", **changes: Any) -> HookedTransformerConfig:
    """The configuration of a shape; a tiny one keeps everything but the sizes."""
    settings: dict[str, Any] = {"positions": "standard", **SHAPES[name], **changes}
    if tiny:
        settings |= _TINY
        settings |= {"n_layers": 3} if name == "GPT-2 small" else {}
        settings |= {"window_size": 8} if name == "local attention" else {}
    make = ih.with_mlps if settings.pop("mlps", False) else ih.attention_only
    return make(device=device, **settings)


def build(name: str, *, tiny: bool = False, device: str = "cpu", seed: int = 0, **changes: Any) -> HookedTransformer:
    """A model with random weights; biases and gains are random too, so that nothing is left out unnoticed."""
    return build_random(configuration(name, tiny=tiny, device=device, **changes), seed)


def build_random(cfg: HookedTransformerConfig, seed: int = 0) -> HookedTransformer:
    """A model of a configuration, gradients off."""
    model = ih.build_model(cfg, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter_name, parameter in model.named_parameters():
        last = parameter_name.rsplit(".", 1)[-1].lstrip("_")
        if last in {"w", "b"} or last.startswith("b_"):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.1 * noise.to(parameter)
    return model.requires_grad_(False)


def new_tokens(model: HookedTransformer, n_examples: int, n_pos: int, seed: int) -> torch.Tensor:
    """Uniform ids [example, pos] on the CPU."""
    generator = torch.Generator().manual_seed(100_000 + seed)
    return torch.randint(0, model.cfg.d_vocab, (n_examples, n_pos), generator=generator)
