"""Lines that follow a rule (paper, Argument 4): two words of one of four classes, and the number of the class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
COLOURS = ("red", "blue", "green", "grey", "black", "white", "brown", "purple", "yellow", "pink")
ANIMALS = ("bird", "fish", "horse", "dog", "cat", "wolf", "bear", "snake", "frog", "mouse", "goat", "duck")
FRUIT = ("apple", "pear", "grape", "lemon", "melon", "cherry", "banana", "mango", "fig", "papaya", "apricot", "plum")
N_CLASSES = 4


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        words: the two.
        label: the number behind the colon.
        gap: what stands between colon and number.
    """

    words: tuple[str, str]
    label: int
    gap: str = " "

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.words[0]} {self.words[1]}:{self.gap}{self.label}\n"

    @property
    def label_at(self) -> int:
        """The character of the number."""
        return len(self.text) - 2


def draw_lines(
    first: tuple[Sequence[str], Sequence[str]],
    second: tuple[Sequence[str], Sequence[str]],
    *,
    n_lines: int,
    n_words: int,
    gap: str = " ",
    generator: np.random.Generator,
) -> list[Line]:
    """Lines of random classes with random words; no two lines have the same words.

    Class 0 has a word of `first[0]` and one of `second[0]`, class 1 of `first[0]` and `second[1]`, class 2 of
    `first[1]` and `second[0]`, class 3 of both seconds.

    Args:
        first: two lists of words, such as months and colours.
        second: two lists of words, such as animals and fruit.
        n_lines: how many, at most four times the square of `n_words`.
        n_words: how many words of each list are used at all, so that lines of other classes share words.
        gap: what stands between colon and label.
        generator: of all that is random.
    """
    used = [[_some(words, n_words, generator) for words in pair] for pair in (first, second)]
    lines: list[Line] = []
    taken: set[tuple[str, str]] = set()
    while len(lines) < n_lines:
        label = int(generator.integers(N_CLASSES))
        left, right = used[0][label // 2], used[1][label % 2]
        words = left[int(generator.integers(len(left)))], right[int(generator.integers(len(right)))]
        if words not in taken:
            taken.add(words)
            lines.append(Line(words, label, gap))
    return lines


def with_words_exchanged(lines: Sequence[Line], generator: np.random.Generator) -> list[Line]:
    """The same labels in the same order, and the pairs of words in a random one: labels then tell nothing."""
    order = generator.permutation(len(lines)).tolist()
    return [replace(line, words=lines[other].words) for line, other in zip(lines, order, strict=True)]


def _some(words: Sequence[str], n_words: int, generator: np.random.Generator) -> list[str]:
    order = [int(place) for place in generator.permutation(len(words))]
    return [words[place] for place in order[:n_words]]
