"""The same models in both versions of transformer-lens: a `TransformerBridge` under 4.x, a `HookedTransformer` before.

Weights come from seeds, so that both versions have the same without anything being passed between them.
"""

from pathlib import Path
from typing import Any

import torch

import ih_lens as ih
from ih_lens.models.hooked_transformer import HAS_HOOKED_TRANSFORMER, HookedTransformerConfig
from tests.models.huggingface_models import D_VOCAB, byte_level_tokenizer, save_huggingface

N_CTX = 320
NATIVE: dict[str, dict[str, Any]] = {
    "native, attention-only": {"attn_only": True},
    "native, with MLPs": {"d_mlp": 64},
}
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("gpt2", {"n_positions": N_CTX}),
    "GPT-NeoX": ("gpt_neox", {"max_position_embeddings": N_CTX}),
    "Llama, grouped queries": ("llama", {"max_position_embeddings": N_CTX}),
}
KINDS = (*NATIVE, *SAVED)
_SIZES: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 32,
    "n_heads": 4,
    "d_head": 8,
    "n_ctx": N_CTX,
    "d_vocab": D_VOCAB,
    "act_fn": "gelu_new",
    "normalization_type": "LN",
    "positional_embedding_type": "standard",
}


def make_model(kind: str, folder: Path) -> Any:
    """One of `KINDS`, with a tokenizer.

    Args:
        kind: which one.
        folder: where a saved one lies or will lie.
    """
    if kind in NATIVE:
        return _native(kind)
    name, changes = SAVED[kind]
    if not (folder / "config.json").exists():
        save_huggingface(folder, name, **changes)
    if HAS_HOOKED_TRANSFORMER:
        return ih.load_model(folder)
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), device="cpu")


def _native(kind: str) -> Any:
    """Built by transformer-lens itself; every parameter is drawn, biases and gains too."""
    settings = {**_SIZES, **NATIVE[kind]}
    if HAS_HOOKED_TRANSFORMER:
        model = ih.build_model(HookedTransformerConfig(**settings, device="cpu"))
        weights = _weights(settings)
        if weights.keys() != dict(model.named_parameters()).keys():
            raise ValueError(f"these are not the model's weights: {sorted(weights)}")
        model.load_state_dict(weights, strict=False)  # masks are not among them
        model.tokenizer = byte_level_tokenizer()
        return model
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**settings), device="cpu")
    bridge.load_state_dict(convert_tl_checkpoint(_weights(settings), bridge.cfg), strict=True)
    bridge.tokenizer = byte_level_tokenizer()
    return bridge


def _weights(settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Under the names that both versions read."""
    d_model, n_heads, d_head, d_mlp = (settings.get(name) for name in ("d_model", "n_heads", "d_head", "d_mlp"))
    shapes: dict[str, tuple[Any, ...]] = {"embed.W_E": (D_VOCAB, d_model), "pos_embed.W_pos": (N_CTX, d_model)}
    for layer in range(settings["n_layers"]):
        shapes |= {f"blocks.{layer}.attn.W_{name}": (n_heads, d_model, d_head) for name in "QKV"}
        shapes |= {f"blocks.{layer}.attn.b_{name}": (n_heads, d_head) for name in "QKV"}
        shapes |= {f"blocks.{layer}.attn.W_O": (n_heads, d_head, d_model), f"blocks.{layer}.attn.b_O": (d_model,)}
        shapes |= {f"blocks.{layer}.ln1.{name}": (d_model,) for name in "wb"}
        if d_mlp is not None:
            shapes |= {f"blocks.{layer}.ln2.{name}": (d_model,) for name in "wb"}
            shapes |= {f"blocks.{layer}.mlp.W_in": (d_model, d_mlp), f"blocks.{layer}.mlp.b_in": (d_mlp,)}
            shapes |= {f"blocks.{layer}.mlp.W_out": (d_mlp, d_model), f"blocks.{layer}.mlp.b_out": (d_model,)}
    shapes |= {"ln_final.w": (d_model,), "ln_final.b": (d_model,)}
    shapes |= {"unembed.W_U": (d_model, D_VOCAB)}
    generator = torch.Generator().manual_seed(0)
    weights = {name: _drawn(name, shape, generator) for name, shape in shapes.items()}
    return {**weights, "unembed.b_U": torch.zeros(D_VOCAB)}


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Matrices that make attention far from uniform, gains around one, biases around zero."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith(".w"):
        return 1 + 0.3 * noise
    return noise if "embed" in name else 0.3 * noise
