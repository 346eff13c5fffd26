"""Hand-built heads of every kind of induction, and a model that repeats a fixed period by counting back."""

import torch
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformer_lens import HookedTransformer
from transformers import PreTrainedTokenizerFast

from tests.oracles.hand_built import SHARPNESS, blank_model, identity

SLOPE = 1.5
"""Per position, where the latest or the earliest match is preferred; over a whole context less than a match."""
D_VOCAB, N_CTX = 40, 100
BOS = D_VOCAB - 1
"""Heads that find no match look at position 0, so examples begin with a start token."""

(BACK_1, BACK_2, BACK_3, BACK_4, DUPLICATE, EARLIEST_DUPLICATE) = range(6)
"""Heads of layer 0: those that write the token 1 to 4 places before, one that looks at all occurrences of the present
token, itself included, and one that looks at the first and writes its position."""
(INDUCTION, TWO, THREE, FOUR, NEAREST, FARTHEST, ANTI_INDUCTION, ENTITY_END) = range(8)
"""Heads of layer 1: the first matches one token and writes the prediction, the others write nothing."""
(SUPPRESSOR, PROMOTER, ANTI_COPYING, FUZZY) = range(4)
"""Heads of layer 2: two that look at what is predicted, and lower or raise it; a prefix-matching head that lowers what
it looks at; one that matches words, of which ids 3 w, 3 w + 1 and 3 w + 2 are the forms of word w."""

_TOKEN = slice(0, D_VOCAB)
_POSITION = slice(D_VOCAB, D_VOCAB + N_CTX)
_BEFORE = [slice(_POSITION.stop + k * D_VOCAB, _POSITION.stop + (k + 1) * D_VOCAB) for k in range(4)]
_EARLIEST = slice(_BEFORE[-1].stop, _BEFORE[-1].stop + N_CTX)
_PREDICTED = slice(_EARLIEST.stop, _EARLIEST.stop + D_VOCAB)


def model_of_all_kinds() -> HookedTransformer:
    """Three attention-only layers without LayerNorm, in float64; the unembedding reads what INDUCTION predicts."""
    model = _blank(n_layers=3, n_heads=8)
    model.embed.W_E.data[:, _TOKEN] = identity(D_VOCAB)
    model.pos_embed.W_pos.data[:, _POSITION] = identity(N_CTX)
    model.unembed.W_U.data[_PREDICTED] = identity(D_VOCAB)
    bottom, middle, top = (block.attn for block in model.blocks)

    for head, back in ((BACK_1, 1), (BACK_2, 2), (BACK_3, 3), (BACK_4, 4)):
        _look_back(bottom, head, back)
        _move(bottom, head, _TOKEN, _BEFORE[back - 1])
    for head in (DUPLICATE, EARLIEST_DUPLICATE):
        _match(bottom, head, _TOKEN, _TOKEN)
    _prefer(bottom, EARLIEST_DUPLICATE, slope=-SLOPE)
    _move(bottom, EARLIEST_DUPLICATE, _POSITION, _EARLIEST)

    for head, n_prefix in ((INDUCTION, 1), (TWO, 2), (THREE, 3), (FOUR, 4), (NEAREST, 1), (FARTHEST, 1)):
        for place, query in enumerate([_TOKEN, *_BEFORE[: n_prefix - 1]]):
            _match(middle, head, query, _BEFORE[place], place=place)
        _prefer(middle, head, sink=SHARPNESS / 2)
    _prefer(middle, NEAREST, slope=SLOPE)
    _prefer(middle, FARTHEST, slope=-SLOPE)
    middle.W_Q.data[ANTI_INDUCTION, _EARLIEST, :N_CTX] = SHARPNESS * identity(N_CTX).roll(-1, dims=1)
    middle.W_K.data[ANTI_INDUCTION, _POSITION, :N_CTX] = identity(N_CTX)
    _match(middle, ENTITY_END, _TOKEN, _BEFORE[1])
    _prefer(middle, ENTITY_END, sink=SHARPNESS / 2)
    for head in range(8):
        middle.W_V.data[head, _TOKEN, :D_VOCAB] = identity(D_VOCAB)
    _move(middle, INDUCTION, _TOKEN, _PREDICTED)

    for head, sign in ((SUPPRESSOR, -1.0), (PROMOTER, 1.0)):
        _match(top, head, _PREDICTED, _TOKEN)
        _move(top, head, _TOKEN, _PREDICTED, sign)
    _match(top, ANTI_COPYING, _TOKEN, _BEFORE[0])
    _prefer(top, ANTI_COPYING, sink=SHARPNESS / 2)
    _move(top, ANTI_COPYING, _TOKEN, _PREDICTED, -1.0)
    of_word = identity(D_VOCAB)[torch.arange(D_VOCAB) // 3]
    top.W_Q.data[FUZZY, _TOKEN, :D_VOCAB] = SHARPNESS * of_word
    top.W_K.data[FUZZY, _BEFORE[0], :D_VOCAB] = of_word
    _prefer(top, FUZZY, sink=SHARPNESS / 2)
    return model


def model_that_counts_back(distance: int) -> HookedTransformer:
    """One layer whose head 0 copies what stands `distance` positions back: it repeats the period distance + 1."""
    model = _blank(n_layers=1, n_heads=2)
    model.embed.W_E.data[:, _TOKEN] = identity(D_VOCAB)
    model.pos_embed.W_pos.data[:, _POSITION] = identity(N_CTX)
    model.unembed.W_U.data[_PREDICTED] = 10 * identity(D_VOCAB)
    _look_back(model.blocks[0].attn, 0, distance)
    _move(model.blocks[0].attn, 0, _TOKEN, _PREDICTED)
    return model


def tokenizer_of_words() -> PreTrainedTokenizerFast:
    """Thirteen words in three forms each, and the start token: ids 3 w to 3 w + 2 are word w."""
    words = [f"{first}{second}" for first in "abcde" for second in "xyz"][:13]
    forms = [form for word in words for form in (word, f" {word}", word.title())]
    vocabulary = {text: number for number, text in enumerate([*forms, "<start>"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(tokenizer_models.WordLevel(vocabulary, unk_token="<start>")), bos_token="<start>"
    )


def _blank(*, n_layers: int, n_heads: int) -> HookedTransformer:
    sizes = {"d_vocab": D_VOCAB, "n_ctx": N_CTX, "d_model": _PREDICTED.stop, "d_head": 4 * D_VOCAB + 1}
    return blank_model(n_layers=n_layers, n_heads=n_heads, **sizes)


def _look_back(attention, head: int, distance: int) -> None:
    """Attend a number of positions back, or to position 0 where there are not so many."""
    attention.W_Q.data[head, _POSITION, :N_CTX] = SHARPNESS * identity(N_CTX).roll(-distance, dims=1)
    attention.W_Q.data[head, _POSITION, :N_CTX][:distance] = SHARPNESS * identity(N_CTX)[0]
    attention.W_K.data[head, _POSITION, :N_CTX] = identity(N_CTX)


def _match(attention, head: int, query: slice, key: slice, *, place: int = 0) -> None:
    """Attend to where `key` of the residual stream holds the token that `query` holds; a match at place 0 decides more
    than those at all places after it.
    """
    own = slice(place * D_VOCAB, (place + 1) * D_VOCAB)
    attention.W_Q.data[head, query, own] = SHARPNESS / 2**place * identity(D_VOCAB)
    attention.W_K.data[head, key, own] = identity(D_VOCAB)


def _prefer(attention, head: int, *, sink: float = 0.0, slope: float = 0.0) -> None:
    """Position 0 where nothing matches; later positions (or earlier ones) where several do."""
    attention.b_Q.data[head, -1] = 1.0
    attention.W_K.data[head, _POSITION, -1] += slope * torch.arange(N_CTX, dtype=torch.float64)
    attention.W_K.data[head, _POSITION, -1][0] += sink


def _move(attention, head: int, read: slice, written: slice, sign: float = 1.0) -> None:
    """Copy one part of what is attended to into another part of the residual stream."""
    width = read.stop - read.start
    attention.W_V.data[head, read, :width] = identity(width)
    attention.W_O.data[head, :width, written] = sign * identity(width)
