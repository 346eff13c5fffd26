"""Words that a tokenizer has as several single tokens: with and without a leading space, with another capital."""

from collections import defaultdict

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.random_tokens import token_pool
from ih_lens.data.start_tokens import start_token
from ih_lens.data.streams import Stream, random_words
from ih_lens.errors import CapabilityError, InputError
from ih_lens.models.token_texts import token_texts
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

_SHORTEST = 2
"""Letters of a word: single ones are as often parts of other words."""


def word_of(text: str) -> str | None:
    """What all forms of a word have in common; None for what is no word."""
    word = text.strip().casefold()
    return word if len(word) >= _SHORTEST and word.isalpha() else None


def word_forms(model: ModelLike, bos: int | str | None = "auto") -> list[list[int]]:
    """The ids of every word that has at least two, among those that random tokens are drawn from.

    Two tokens are forms of one word if their texts agree without the white space around them and without regard to
    capitals; words are letters, at least two.

    Raises:
        CapabilityError: if the model has no tokenizer.

    Examples:
        >>> gpt2 = load_model("gpt2")
        >>> token_texts(gpt2, word_forms(gpt2)[0])  # "he", " he", "He", ...
    """
    if getattr(model, "tokenizer", None) is None:
        raise CapabilityError(
            "words in several forms need a tokenizer, and this model has none; give it one (model.tokenizer = ...), "
            "or leave this measure out"
        )
    ids = token_pool(model, bos).ids.tolist()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for token, text in zip(ids, token_texts(model, ids), strict=True):
        word = word_of(text)
        if word is not None:
            found[word].append(token)
    return [forms for forms in found.values() if len(forms) > 1]


def words_in_other_forms(
    model: ModelLike,
    *,
    n_words: int = 25,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
) -> Int[Tensor, "example pos"]:
    """Random words, each a single token, and then the same words in another order and each in another form.

    Args:
        model: gives the tokenizer, vocabulary and context length; it is not run.
        n_words: words per example.
        n_examples: examples, each with its own draw.
        seed: the same seed gives the same tokens.
        bos: start token: "auto" for the tokenizer's, an id, or None for none.

    Returns:
        Ids [example, pos] of 2 * n_words tokens after the start token.

    Raises:
        CapabilityError: if the model has no tokenizer, or its tokenizer no such words.
        InputError: if an example does not fit the context, or there are not so many words.

    Examples:
        >>> gpt2 = load_model("gpt2")
        >>> token_texts(gpt2, words_in_other_forms(gpt2, n_words=3)[0])  # ..., " table", "Green", "green", "Table"
    """
    forms = word_forms(model, bos)
    start = start_token(model, bos)
    if len(forms) < 2:
        raise CapabilityError(
            "words in several forms: this tokenizer has fewer than two words of which there are several"
        )
    at_least("n_words", n_words, 2)
    at_least("n_examples", n_examples, 1)
    if n_words > len(forms):
        raise InputError(f"n_words: {n_words} words were asked for, and the tokenizer has {len(forms)} in two forms")
    if 2 * n_words + (start is not None) > model.cfg.n_ctx:
        raise InputError(f"n_words: {n_words} words twice do not fit the model's context of {model.cfg.n_ctx}")
    n_forms = np.array([len(ids) for ids in forms])
    table = np.array([[ids[place % len(ids)] for place in range(n_forms.max())] for ids in forms])
    examples = []
    for example in range(n_examples):
        n_drawn = len(forms) + 3 * n_words
        words = random_words(seed, Stream.ARRANGEMENT, example * n_drawn, n_drawn)
        chosen = words[: len(forms)].argsort()[:n_words]
        first_draw, second_draw, order = words[len(forms) :].reshape(3, n_words)
        n = n_forms[chosen].astype(np.uint64)
        form = first_draw % n
        other = (form + 1 + second_draw % (n - np.uint64(1))) % n
        firsts, others = (table[chosen, place.astype(np.int64)] for place in (form, other))
        examples.append(np.concatenate([firsts, others[order.argsort()]]))
    written = torch.from_numpy(np.stack(examples))
    return written if start is None else torch.nn.functional.pad(written, (1, 0), value=start)
