"""Models with a tokenizer of whole words, so that it is known what stands where; heads that look back by position."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformer_lens import HookedTransformer
from transformers import PreTrainedTokenizerFast

from ih_lens.data.behaviours.pattern_lines import ANIMALS, COLOURS, FRUIT, MONTHS
from tests.helpers import tiny_model
from tests.oracles.hand_built import SHARPNESS, blank_model, identity

MADE_UP = tuple(f"{first}{last}" for first in "bdfgklmnprstvz" for last in ("ab", "em", "io", "ul"))
"""Words of a language without meaning."""
OTHER = tuple(f"x{word}" for word in MADE_UP)
"""The same words in another language."""
_SIGNS = ("EN", "FR", "DE", ":", "\n", ".", "0", "1", "2", "3")


@functools.cache
def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word or sign; spaces are none."""
    words = ["<s>", "<unk>", *_SIGNS, *MONTHS, *COLOURS, *ANIMALS, *FRUIT, *MADE_UP, *OTHER]
    inner = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]"), "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<s>", unk_token="<unk>")


def reading_model(kind: str, **changes: Any) -> HookedTransformer:
    """A model of the zoo that reads words."""
    model = tiny_model(kind, **{"d_vocab": len(word_tokenizer()), "n_ctx": 128, **changes})
    model.tokenizer = word_tokenizer()
    return model


def looking_back_model(distances: Sequence[int], *, n_ctx: int = 128) -> HookedTransformer:
    """One layer whose heads attend to the token so many places back (0: to all tokens alike) and write it.

    Where there is no such place, a head attends to the first token.
    """
    d_vocab = len(word_tokenizer())
    model = blank_model(
        n_layers=1,
        n_heads=len(distances),
        d_model=d_vocab + n_ctx,
        d_head=max(d_vocab, n_ctx),
        d_vocab=d_vocab,
        n_ctx=n_ctx,
    )
    token, position = identity(d_vocab), identity(n_ctx)
    model.embed.W_E.data[:, :d_vocab] = token
    model.pos_embed.W_pos.data[:, d_vocab:] = position
    model.unembed.W_U.data[:d_vocab] = token
    attention = model.blocks[0].attn
    for head, distance in enumerate(distances):
        if distance:
            source = (torch.arange(n_ctx) - distance).clamp(min=0)
            attention.W_Q.data[head, d_vocab:, :n_ctx] = SHARPNESS * position[source]
            attention.W_K.data[head, d_vocab:, :n_ctx] = position
        attention.W_V.data[head, :d_vocab, :d_vocab] = token
        attention.W_O.data[head, :d_vocab, :d_vocab] = token
    model.tokenizer = word_tokenizer()
    return model
