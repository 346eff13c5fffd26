"""The examples of each step, in the order that every model of a series sees."""

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.corpus import Corpus, predicted_indices
from ih_lens.errors import InputError
from ih_lens.training.config import TrainConfig

_TOKENS_AHEAD = 2**20


class Batches:
    """Step `s` trains on the examples s * batch_size to (s + 1) * batch_size - 1 of the order of `data_seed`.

    Examples are asked of the corpus for many steps at once, because finding the order takes time.

    Raises:
        InputError: if the corpus has too few examples and `repeat_examples` is not set.
    """

    def __init__(self, corpus: Corpus, config: TrainConfig) -> None:
        self._corpus, self._config = corpus, config
        self._steps_ahead = max(1, _TOKENS_AHEAD // (config.batch_size * corpus.n_pos))
        self._first_step, self._ahead = 0, torch.empty(0, corpus.n_pos, dtype=torch.int64, device="cpu")
        needed = config.n_steps * config.batch_size
        if corpus.n_examples is not None and corpus.n_examples < needed and not config.repeat_examples:
            raise InputError(
                f"{config.n_steps} steps of {config.batch_size} examples need {needed} examples, and the corpus has "
                f"{corpus.n_examples}; train for at most {corpus.n_examples // config.batch_size} steps, "
                "give more data, or set repeat_examples=True"
            )

    @property
    def predicted(self) -> tuple[int, ...] | None:
        """Context indices whose losses count, where the corpus names some."""
        return predicted_indices(self._corpus)

    def __getitem__(self, step: int) -> Int[Tensor, "batch pos"]:
        size = self._config.batch_size
        start = (step - self._first_step) * size
        if not 0 <= start < len(self._ahead):
            self._first_step, start = step, 0
            last_step = min(step + self._steps_ahead, self._config.n_steps)
            self._ahead = self._examples(step * size, last_step * size)
        return self._ahead[start : start + size]

    def _examples(self, start: int, stop: int) -> Int[Tensor, "example pos"]:
        """Examples start..stop-1; past the corpus's end it begins anew."""
        available, seed = self._corpus.n_examples, self._config.data_seed
        if available is None or stop <= available:
            return self._corpus.examples(start, stop, data_seed=seed)
        pieces: list[Tensor] = []
        while start < stop:
            first = start % available
            count = min(stop - start, available - first)
            pieces.append(self._corpus.examples(first, first + count, data_seed=seed))
            start += count
        return torch.cat(pieces)
