"""Bridges around tiny Hugging Face models with random weights, saved to and loaded from a folder."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

_SPECIAL = {"bos_token": "w1", "eos_token": "w1", "pad_token": "w1", "unk_token": "w0"}


def _huggingface_model(kind: str) -> Any:
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=50, n_positions=64))
    if kind == "llama":
        sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
        return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=64, vocab_size=50))
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "window_size": 8}
    types = [[["global", "local"], 1]]
    return GPTNeoForCausalLM(GPTNeoConfig(**sizes, attention_types=types, vocab_size=50, max_position_embeddings=64))


def tiny_bridge(kind: str, folder: Path) -> TransformerBridge:
    """A bridge of kind "gpt2", "llama" or "gpt_neo"."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _huggingface_model(kind)
        for name, parameter in model.named_parameters():
            if "ln" in name or "norm" in name or "bias" in name:
                parameter.data += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(50)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, **_SPECIAL).save_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), device="cpu")
