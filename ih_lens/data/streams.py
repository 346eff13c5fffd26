"""Random numbers that depend on nothing but a seed, a purpose and a position: the same on every machine.

Only the raw output of numpy's Philox generator is used, which numpy keeps stable between versions, and the
words at any position are reached without drawing those before them.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

from ih_lens.errors import InputError

_WORDS_PER_COUNT = 4  # one step of Philox's counter gives four words of 64 bits


class Stream(IntEnum):
    """What the numbers are for: the same seed gives unrelated numbers for each purpose."""

    TRAINING = 0
    HELD_OUT = 1
    ORDER = 2
    HELD_OUT_ROWS = 3
    RANDOM_INDEX = 4
    RANDOM_TOKENS = 5
    TASK = 6
    GENERATION = 7
    ARRANGEMENT = 8
    REFERENCE = 9


def random_words(seed: int, stream: Stream, start: int, count: int) -> NDArray[np.uint64]:
    """Words `start` to `start + count` of the stream, uniform over 64 bits."""
    if isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise InputError(f"seed: expected an integer from 0 to 2^64 - 1, got {seed!r}")
    generator = Philox(key=np.array([seed, stream], dtype=np.uint64))
    generator.advance(start // _WORDS_PER_COUNT)
    skipped = start % _WORDS_PER_COUNT
    return generator.random_raw(skipped + count)[skipped:]


def as_uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Each word as a number in [0, 1)."""
    return (words >> np.uint64(11)) * np.float64(2.0**-53)


@lru_cache(maxsize=4)  # asked for again with every batch
def permutation(seed: int, stream: Stream, length: int) -> NDArray[np.int64]:
    """The numbers 0..length-1 in random order, as an array that cannot be written to."""
    order = random_words(seed, stream, 0, length).argsort(kind="stable")
    order.flags.writeable = False
    return order
