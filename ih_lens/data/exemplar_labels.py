"""Exemplars and labels: few-shot classification in context, the task of Singh et al. 2024."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ih_lens.data.corpus import fingerprinted
from ih_lens.data.generated_task import GeneratedTask
from ih_lens.data.streams import Stream, as_uniform, permutation, random_words
from ih_lens.errors import InputError
from ih_lens.validate import at_least, one_of

SPLITS = ("train", "new_label_pairs", "new_exemplars", "new_classes")
QUERY = 4
"""Position of the query; the label after it is what is predicted."""
_WORDS = 8


@dataclass(frozen=True)
class ExemplarLabels(GeneratedTask):
    """Exemplar, label, exemplar, label, query, label: the query is of one class in the context, and gets its label.

    Which class has which label is drawn anew for every sequence, so only the context tells. Ids 0 to n_labels - 1 are
    labels, and every exemplar has an id of its own after them. Exemplars are points with many coordinates, which the
    model embeds through a linear map that it learns (`token_features`); only the last label is predicted.

    Args:
        n_classes: classes that are trained on; as many as `n_new_classes` more are kept for measuring.
        n_labels: labels.
        n_new_label_pairs: pairs of labels that never stand in one training sequence.
        n_exemplars: exemplars of each class that are trained on.
        n_new_exemplars: exemplars of each class that are kept for measuring.
        n_new_classes: classes that are kept for measuring.
        d_feature: coordinates of an exemplar.
        similarity: correlation of the Gaussian exemplars of different classes, 0 to below 1: the more alike they are,
            the longer it takes to tell them apart.
        spread: share of an exemplar that its class does not determine.
        features: coordinates of all exemplars, from images for instance, [class * exemplar, d_feature], class by class,
            best about one in size; by default Gaussian ones.
        seed: of the features and of the choice of label pairs.

    Raises:
        InputError: if the numbers do not fit together.

    Examples:
        >>> ExemplarLabels().examples(0, 32, data_seed=0).shape
        torch.Size([32, 6])
    """

    n_classes: int = 50
    n_labels: int = 5
    n_new_label_pairs: int = 2
    n_exemplars: int = 1
    n_new_exemplars: int = 1
    n_new_classes: int = 10
    d_feature: int = 512
    similarity: float = 0.8
    spread: float = 0.1
    features: Float[Tensor, "exemplar d_feature"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        minima = {"n_classes": 2, "n_labels": 2, "n_exemplars": 1, "d_feature": 1}
        minima |= {"n_new_label_pairs": 0, "n_new_exemplars": 0, "n_new_classes": 0, "seed": 0}
        for name, minimum in minima.items():
            at_least(name, getattr(self, name), minimum)
        if not (0 <= self.similarity < 1 and 0 <= self.spread < 1):
            raise InputError(
                f"similarity and spread: expected shares from 0 to below 1, got {self.similarity} and {self.spread}"
            )
        n_all = (self.n_classes + self.n_new_classes) * self._per_class
        if self.features is not None and self.features.shape != (n_all, self.d_feature):
            raise InputError(
                f"features: expected [{n_all}, {self.d_feature}] for {self.n_classes} + {self.n_new_classes} classes "
                f"of {self._per_class} exemplars, got {tuple(self.features.shape)}"
            )
        if len({label for pair in self.label_pairs["train"] for label in pair}) < self.n_labels:
            raise InputError(
                f"n_new_label_pairs: {self.n_new_label_pairs} leave labels out of training; keep fewer pairs"
            )

    @property
    def _per_class(self) -> int:
        return self.n_exemplars + self.n_new_exemplars

    @property
    def n_pos(self) -> int:
        """Tokens per example."""
        return QUERY + 2

    @property
    def d_vocab(self) -> int:
        """Labels and exemplars."""
        return self.n_labels + (self.n_classes + self.n_new_classes) * self._per_class

    @property
    def predicted(self) -> tuple[int, ...]:
        """The context index of the label to be predicted: no other loss counts."""
        return (QUERY + 1,)

    @property
    def d_vocab_predicted(self) -> int:
        """Only labels are predicted."""
        return self.n_labels

    @property
    def theoretical_floor(self) -> float:
        """The context determines the label."""
        return 0.0

    @property
    def plateau(self) -> float:
        """Loss in nats of guessing one of the labels in the context at random."""
        return math.log(2)

    @property
    def classes(self) -> tuple[int, ...]:
        """Class of every id, for `LabelMatch`; labels are classes of their own."""
        n_all = self.n_classes + self.n_new_classes
        labels = range(n_all, n_all + self.n_labels)
        return (*labels, *(kind for kind in range(n_all) for _ in range(self._per_class)))

    @cached_property
    def label_pairs(self) -> dict[str, list[tuple[int, int]]]:
        """Unordered pairs of labels: those of training, and those kept for measuring."""
        pairs = list(combinations(range(self.n_labels), 2))
        if self.n_new_label_pairs >= len(pairs):
            raise InputError(
                f"n_new_label_pairs: of {len(pairs)} pairs some must be trained on, got {self.n_new_label_pairs}"
            )
        order = permutation(self.seed, Stream.TASK, len(pairs))
        chosen = [pairs[place] for place in order]
        return {"new": chosen[: self.n_new_label_pairs], "train": chosen[self.n_new_label_pairs :]}

    @cached_property
    def token_features(self) -> Float[Tensor, "exemplar d_feature"]:
        """Coordinates of every exemplar, in the order of their ids; Gaussian ones have variance one."""
        if self.features is not None:
            return self.features.float()
        n_all = self.n_classes + self.n_new_classes
        generator = torch.Generator().manual_seed(self.seed)
        common = torch.randn(1, 1, self.d_feature, generator=generator, device="cpu")
        of_class = torch.randn(n_all, 1, self.d_feature, generator=generator, device="cpu")
        own = torch.randn(n_all, self._per_class, self.d_feature, generator=generator, device="cpu")
        kind = math.sqrt(1 - self.spread) * of_class + math.sqrt(self.spread) * own
        points = math.sqrt(self.similarity) * common + math.sqrt(1 - self.similarity) * kind
        return points.flatten(0, 1)

    def describe(self) -> dict[str, Any]:
        """The parameters and their fingerprint, ready for JSON."""
        own = {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
        given = None if self.features is None else fingerprinted({"values": self.features.double().tolist()})
        own["features"] = None if given is None else given["fingerprint"]
        return fingerprinted({"kind": "exemplar_labels", "version": 1, **own})

    def measuring(self, split: str, n: int) -> Int[Tensor, "example pos"]:
        """Examples to measure on, that training never gives.

        Args:
            split: "train" (new sequences of what is trained on), "new_label_pairs", "new_exemplars" or "new_classes";
                each changes one thing.
            n: how many.

        Raises:
            InputError: if nothing was kept for that.
        """
        at_least("n", n, 0)
        kept = {"new_label_pairs": self.n_new_label_pairs, "new_exemplars": self.n_new_exemplars}
        kept["new_classes"] = self.n_new_classes if self.n_new_classes != 1 else 0  # two stand in a sequence
        if not kept.get(one_of("split", split, SPLITS), 1):
            raise InputError(f"split: nothing was kept for {split!r}; make the task with n_{split} above it")
        return self._sequences(0, Stream.HELD_OUT, 0, n, split)

    def _generate(self, seed: int, stream: Stream, start: int, stop: int) -> Int[Tensor, "example pos"]:
        return self._sequences(seed, stream, start, stop, "train")

    def _sequences(self, seed: int, stream: Stream, start: int, stop: int, split: str) -> Int[Tensor, "example pos"]:
        words = random_words(seed, stream, start * _WORDS, (stop - start) * _WORDS)
        draws = as_uniform(words).reshape(-1, _WORDS)
        classes = self._two_classes(draws, split)
        labels = self._two_labels(draws, split)
        new = split == "new_exemplars"
        n_own, first = (self.n_new_exemplars, self.n_exemplars) if new else (self.n_exemplars, 0)
        own = first + _below(draws[:, 3:5], n_own)
        exemplars = self.n_labels + classes * self._per_class + own
        asked = _below(draws[:, 5], 2)
        rows = np.arange(len(draws))
        columns = (exemplars[:, 0], labels[:, 0], exemplars[:, 1], labels[:, 1], exemplars[rows, asked])
        return torch.from_numpy(np.stack([*columns, labels[rows, asked]], axis=1))

    def _two_classes(self, draws: NDArray[np.float64], split: str) -> NDArray[np.int64]:
        n, first = (self.n_new_classes, self.n_classes) if split == "new_classes" else (self.n_classes, 0)
        one = _below(draws[:, 0], n)
        other = (one + 1 + _below(draws[:, 1], n - 1)) % n
        return first + np.stack([one, other], axis=1)

    def _two_labels(self, draws: NDArray[np.float64], split: str) -> NDArray[np.int64]:
        pairs = np.array(self.label_pairs["new" if split == "new_label_pairs" else "train"], dtype=np.int64)
        chosen = pairs[_below(draws[:, 2], len(pairs))]
        swapped = _below(draws[:, 6], 2).astype(bool)
        return np.where(swapped[:, None], chosen[:, ::-1], chosen)


def _below(uniform: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Integers from 0 to n - 1."""
    return (uniform * n).astype(np.int64)
