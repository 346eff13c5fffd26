"""Tiny models with random weights in the Hugging Face hub's own formats, by architecture, built without any download.

Every parameter is drawn, biases and gains too, so that a part left out of a conversion changes the logits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from demos import stand_ins

D_VOCAB = 304
"""Rows of the embedding; the tokenizer knows fewer ids, as with Pythia, whose embedding is padded."""
N_TOKENS = 300
"""Ids that the tokenizer can produce: 256 bytes, the special ones and a few merges."""
N_CTX = 64
WINDOW = 8
"""Of local attention, where there is any."""

_TEXT = [
    "the cat sat on the mat and the dog lay on the log while the old man told the others what he thought of them",
    "one token after another, again and again: this is how induction heads learn to copy what came before",
]
_ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_OPENAI: dict[str, Any] = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "vocab_size": D_VOCAB,
    "n_positions": N_CTX,
    **_ENDS,
}
_SIZES: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": D_VOCAB,
    "max_position_embeddings": N_CTX,
    **_ENDS,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2}
_OPT: dict[str, Any] = {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}
_EXPERTS: dict[str, Any] = {**_GROUPED, "num_experts_per_tok": 2}
_LLAMA3_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_LOCAL: dict[str, Any] = {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", _OPENAI),
    "gpt2_inverse_layer": ("GPT2", {**_OPENAI, "scale_attn_by_inverse_layer_idx": True}),
    "gpt2_wide_mlp": ("GPT2", {**_OPENAI, "n_inner": 48}),
    "gpt_neox": ("GPTNeoX", {**_SIZES, "rotary_pct": 0.5, "use_parallel_residual": True}),
    "gpt_neox_sequential": ("GPTNeoX", {**_SIZES, "rotary_pct": 1.0, "use_parallel_residual": False}),
    "llama": ("Llama", _GROUPED),
    "llama_rope_scaled": ("Llama", {**_GROUPED, "rope_parameters": _LLAMA3_ROPE}),
    "llama_linear_rope": ("Llama", {**_GROUPED, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    "llama_biased": ("Llama", {**_GROUPED, "attention_bias": True, "mlp_bias": True}),
    "gpt_neo": (
        "GPTNeo",
        {
            "num_layers": 2,
            "hidden_size": 32,
            "num_heads": 4,
            "vocab_size": D_VOCAB,
            "max_position_embeddings": N_CTX,
            **_LOCAL,
            **_ENDS,
        },
    ),
    "opt": ("OPT", {**_OPT, "activation_function": "gelu"}),
    "opt_relu": ("OPT", _OPT),
    "opt_post_norm": ("OPT", {**_OPT, "do_layer_norm_before": False}),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": None}),
    "mistral_sliding": ("Mistral", {**_GROUPED, "sliding_window": WINDOW}),
    "mixtral": ("Mixtral", {**_EXPERTS, "num_local_experts": 4, "sliding_window": None}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 16}),
    "phi": ("Phi", {**_SIZES, "partial_rotary_factor": 0.5}),
    "phi3": ("Phi3", {**_GROUPED, "sliding_window": None}),
    "gptj": ("GPTJ", {**_OPENAI, "rotary_dim": 4}),
    "bloom": ("Bloom", {"n_layer": 2, "hidden_size": 32, "n_head": 4, "vocab_size": D_VOCAB, **_ENDS}),
    "apertus": ("Apertus", _GROUPED),
    "gpt_oss": (
        "GptOss",
        {**_EXPERTS, "head_dim": 8, "num_local_experts": 4, "sliding_window": WINDOW},
    ),
    "olmo3": ("Olmo3", {**_GROUPED, "sliding_window": WINDOW}),
    "olmoe": ("Olmoe", {**_EXPERTS, "num_experts": 4}),
    "olmo": ("Olmo", {**_SIZES, "clip_qkv": 1.5}),
    "olmo2": ("Olmo2", _SIZES),
    "olmo2_grouped": ("Olmo2", _GROUPED),
    "gemma": ("Gemma", {**_GROUPED, "head_dim": 8}),
    "gemma2": (  # the `sdpa` attention of transformers 5.9 leaves out the soft cap, without a word
        "Gemma2",
        {**_GROUPED, "head_dim": 8, "sliding_window": WINDOW, "attn_implementation": "eager"},
    ),
    "gemma3": (
        "Gemma3",
        {**_GROUPED, "head_dim": 8, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "falcon": ("Falcon", {**_SIZES, "new_decoder_architecture": False}),
}
"""The prefix of the classes in `transformers`, and what the configuration is given."""
CONFIGURATIONS = {"Gemma3": "Gemma3Text"}
"""Prefixes of configurations that differ from their models'."""


def huggingface_model(
    kind: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0, **changes: Any
) -> PreTrainedModel:
    """A causal language model of a kind of `ARCHITECTURES`, in evaluation mode.

    Args:
        kind: the key.
        dtype: of the weights, which are drawn in float64 and rounded.
        seed: of the weights.
        scale: factor on the matrices; larger is further from uniform attention.
        **changes: to the configuration.
    """
    prefix, settings = ARCHITECTURES[kind]
    config = getattr(transformers, f"{CONFIGURATIONS.get(prefix, prefix)}Config")(**{**settings, **changes})
    build: Callable[[Any], PreTrainedModel] = getattr(transformers, f"{prefix}ForCausalLM", None) or getattr(
        transformers, f"{prefix}LMHeadModel"
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(config)
    redraw(model, seed=seed, scale=scale)
    model.to(dtype=dtype)  # pyright: ignore[reportCallIssue]
    return model.eval()


def redraw(model: torch.nn.Module, *, seed: int = 0, scale: float = 1.0) -> None:
    """Draw every parameter anew: matrices of unit gain, gains around one, biases around zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1:
                noise *= scale * (1.0 if "emb" in name or "wte" in name else 32**-0.5)
            else:
                noise = 0.3 * noise + (1.0 if "norm" in name or "ln" in name else 0.0) * ("bias" not in name)
            parameter.copy_(noise)


def byte_level_tokenizer(
    *, start: str | None = "<|endoftext|>", adds_start: bool = False, n_tokens: int = N_TOKENS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's and Pythia's, with or without a start token of its own.

    Args:
        start: the special token that starts, ends and pads, id 0; without one there is `<|endoftext|>` that only
            ends, as with Qwen.
        adds_start: prepend it to every text, as Llama 3's does.
        n_tokens: ids in all.
    """
    return stand_ins.byte_level_tokenizer(_TEXT * 4, n_tokens=n_tokens, start=start, adds_start=adds_start)


def save_huggingface(
    folder: Path,
    kind: str = "gpt2",
    *,
    tokenizer: PreTrainedTokenizerFast | bool | None = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    max_shard_size: str = "50GB",
    **changes: Any,
) -> PreTrainedModel:
    """Save a model and its tokenizer as they lie in a repository of the hub: config.json, safetensors, tokenizer.json.

    Args:
        folder: made if missing.
        kind: of `ARCHITECTURES`.
        tokenizer: to save beside it; True takes `byte_level_tokenizer()`, None or False none.
        dtype: of the weights.
        seed: of the weights.
        max_shard_size: smaller than the weights for several files and an index.
        **changes: to the configuration.

    Returns:
        The model that was saved.
    """
    model = huggingface_model(kind, dtype=dtype, seed=seed, **changes)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if tokenizer is True:
        tokenizer = byte_level_tokenizer()
    if tokenizer:
        tokenizer.save_pretrained(folder)
    return model
