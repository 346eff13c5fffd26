"""Random tokens in which earlier places differ in one respect, so that kinds of induction can be told apart."""

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from ih_lens.data.random_tokens import random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.data.streams import Stream, random_words
from ih_lens.errors import InputError
from ih_lens.types import ModelLike
from ih_lens.validate import at_least


def prefix_candidates(
    model: ModelLike,
    *,
    n_prefix: int = 2,
    n_groups: int = 8,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
) -> Int[Tensor, "example pos"]:
    """Prefixes that come back, beside others that end in the same token and differ before it.

    A group has one prefix of `n_prefix` tokens and, for each smaller number m from 1, another in which only the last m
    tokens are the same; each is followed by a token of its own. All of these stand in random order, those of all groups
    mixed; then the full prefix of every group comes again, in random order. Its last token is the place to look from.
    Everything that is not said to be the same differs.

    Args:
        model: gives vocabulary, context length and tokenizer; it is not run.
        n_prefix: tokens of the full prefix, at least 2.
        n_groups: how many prefixes come back.
        n_examples: examples, each with its own draw.
        seed: the same seed gives the same tokens.
        bos: start token: "auto" for the tokenizer's, an id, or None for none.

    Returns:
        Ids [example, pos] of n_groups * n_prefix * (n_prefix + 2) tokens after the start token.

    Raises:
        InputError: if an example does not fit the context or the vocabulary, or `n_prefix` is below 2.

    Examples:
        >>> prefix_candidates(model, n_prefix=2, n_groups=1, n_examples=1)  # a b A, c b C, a b; or c b C, a b A, a b
    """
    blocks = prefix_blocks(n_prefix)
    n_own = int(blocks.max()) + 1
    groups = n_own * np.arange(at_least("n_groups", n_groups, 1))
    first = (groups[:, None, None] + blocks).reshape(-1, n_prefix + 1)
    again = groups[:, None] + blocks[0, :n_prefix]
    words = random_words(seed, Stream.ARRANGEMENT, 0, n_examples * (len(first) + n_groups))
    orders = words.reshape(n_examples, -1)
    places = [
        np.concatenate([first[order[n_groups:].argsort()].ravel(), again[order[:n_groups].argsort()].ravel()])
        for order in orders
    ]
    return _written(model, np.stack(places), seed, bos)


def prefix_blocks(n_prefix: int) -> NDArray[np.int64]:
    """One group of `prefix_candidates` as numbers of its own tokens: the full prefix first, each with what follows."""
    n = at_least("n_prefix", n_prefix, 2)
    blocks, next_token = [np.arange(n + 1)], n + 1
    for n_same in range(n - 1, 0, -1):
        n_new = n - n_same
        new = np.arange(next_token, next_token + n_new + 1)
        blocks.append(np.concatenate([new[:-1], np.arange(n_new, n), new[-1:]]))
        next_token += n_new + 1
    return np.stack(blocks)


def scattered_copies(
    model: ModelLike,
    *,
    length: int = 16,
    n_copies: int = 3,
    n_between: int = 32,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
) -> Int[Tensor, "example pos"]:
    """Copies of a random sequence with random numbers of other tokens before each, so that no distance fits them all.

    Counting back does not find what followed an earlier occurrence here, as it does in `repeated_random_tokens`.

    Args:
        model: gives vocabulary, context length and tokenizer; it is not run.
        length: distinct random tokens that are copied.
        n_copies: how often they occur.
        n_between: other random tokens in all, each once; how many of them stand before which copy is drawn.
        n_examples: examples, each with its own draw.
        seed: the same seed gives the same tokens.
        bos: start token: "auto" for the tokenizer's, an id, or None for none.

    Returns:
        Ids [example, pos] of length * n_copies + n_between tokens after the start token.

    Raises:
        InputError: if an example does not fit the context or the vocabulary.

    Examples:
        >>> scattered_copies(model, length=16, n_copies=3, n_between=32, bos=None).shape
        torch.Size([10, 80])
    """
    at_least("length", length, 1)
    at_least("n_between", n_between, 1)
    words = random_words(seed, Stream.ARRANGEMENT, 0, n_examples * at_least("n_copies", n_copies, 2))
    cuts = np.sort(words.reshape(n_examples, -1) % np.uint64(n_between + 1), axis=1).astype(np.int64)
    copied, others = np.arange(length), np.arange(length, length + n_between)
    places: list[NDArray[np.int64]] = []
    for row in cuts:
        *gaps, after = np.split(others, row)
        places.append(np.concatenate([*(part for gap in gaps for part in (gap, copied)), after]))
    return _written(model, np.stack(places), seed, bos)


def entity_lists(
    model: ModelLike,
    *,
    n_entities: int = 8,
    entity_length: int = 3,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
) -> Int[Tensor, "example pos"]:
    """A list of random entities of several tokens, each closed by the same separator, and again in another order.

    Args:
        model: gives vocabulary, context length and tokenizer; it is not run.
        n_entities: entities in the list.
        entity_length: tokens of each, at least 3, so that the second token is not the last.
        n_examples: examples, each with its own draw.
        seed: the same seed gives the same tokens.
        bos: start token: "auto" for the tokenizer's, an id, or None for none.

    Returns:
        Ids [example, pos] of 2 * n_entities * (entity_length + 1) tokens after the start token.

    Raises:
        InputError: if an example does not fit the context or the vocabulary, or entities are too short.

    Examples:
        >>> entity_lists(model, n_entities=2, n_examples=1)  # a b c , d e f , d e f , a b c ,
    """
    at_least("entity_length", entity_length, 3)
    at_least("n_entities", n_entities, 2)
    separator = n_entities * entity_length
    entities = np.arange(separator).reshape(n_entities, -1)
    closed = np.concatenate([entities, np.full((n_entities, 1), separator)], axis=1)
    words = random_words(seed, Stream.ARRANGEMENT, 0, n_examples * n_entities)
    orders = words.reshape(n_examples, n_entities).argsort(axis=1)
    places = [np.concatenate([closed.ravel(), closed[order].ravel()]) for order in orders]
    return _written(model, np.stack(places), seed, bos)


def _written(
    model: ModelLike, places: NDArray[np.int64], seed: int, bos: int | str | None
) -> Int[Tensor, "example pos"]:
    """Numbers of tokens as random ids, a draw of its own for each example, after the start token."""
    n_examples, n_pos = places.shape
    start = start_token(model, bos)
    n_written = n_pos + (start is not None)
    if n_written > model.cfg.n_ctx:
        raise InputError(
            f"examples of {n_written} tokens do not fit the model's context of {model.cfg.n_ctx}; ask for shorter ones"
        )
    n_distinct = int(places.max()) + 1
    drawn = random_tokens(model, length=n_distinct, n_examples=n_examples, seed=seed, bos=bos)
    written = drawn[:, drawn.shape[1] - n_distinct :].gather(1, torch.from_numpy(places))
    return written if start is None else torch.nn.functional.pad(written, (1, 0), value=start)
