"""RestartCycle: a task that only induction solves, on which small models go through the phase change in seconds."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ih_lens.data.corpus import fingerprinted
from ih_lens.data.generated_task import SymbolTask
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.errors import InputError
from ih_lens.validate import at_least, proportion, token_batch


@dataclass(frozen=True)
class RestartCycle(SymbolTask):
    """Every sequence has a random cycle of its own, which the model can learn only from the sequence itself.

    `period` distinct symbols out of `n_symbols` are put in a random cyclic order. The first token is any of them;
    each next one is, with probability 1 - `restart`, the successor of the current one, else any of the `period`
    symbols. The restarts are what makes it a test of induction: without them the token can be found by counting
    back one period. Examples are generated when asked for, each from (data_seed, its position) alone; there is
    no end to them.

    Args:
        n_symbols: size of the vocabulary.
        period: symbols in a cycle.
        restart: probability of a jump to a random place of the cycle.
        length: tokens per example.

    Raises:
        InputError: if the numbers do not fit together.

    Examples:
        >>> RestartCycle().examples(0, 32, data_seed=0).shape
        torch.Size([32, 48])
    """

    n_symbols: int = 32
    period: int = 12
    restart: float = 0.2
    length: int = 48

    def __post_init__(self) -> None:
        at_least("period", self.period, 2)
        at_least("length", self.length, 2)
        if at_least("n_symbols", self.n_symbols, 2) < self.period:
            raise InputError(f"n_symbols: expected at least the {self.period} symbols of a cycle, got {self.n_symbols}")
        proportion("restart", self.restart)

    @property
    def theoretical_floor(self) -> float:
        """Entropy of the next token in nats once the cycle is known: no model's mean loss can stay below it.

        The successor comes with probability 1 - r + r/P, each of the other P - 1 symbols with r/P.
        """
        other = self.restart / self.period
        successor = 1 - self.restart + other
        shares = ((successor, 1), (other, self.period - 1))
        return sum((-n * share * math.log(share) for share, n in shares if share), 0.0)

    def describe(self) -> dict[str, Any]:
        """The parameters and their fingerprint, ready for JSON."""
        return fingerprinted({"kind": "restart_cycle", "version": 1, **asdict(self)})

    def predictable(self, tokens: Int[Tensor, "example pos"]) -> Bool[Tensor, "example pos"]:
        """True at every context index whose token followed the token before it earlier in the sequence as well.

        There a model that copies what came after the previous occurrence can be right; index 0 is never such.
        """
        token_batch(tokens, d_vocab=self.n_symbols, min_length=2)
        pairs = tokens[:, :-1].long() * self.n_symbols + tokens[:, 1:].long()
        repeated = (pairs[:, :, None] == pairs[:, None, :]).tril(-1).any(-1)
        return torch.nn.functional.pad(repeated, (1, 0))

    def _generate(self, seed: int, stream: Stream, start: int, stop: int) -> Int[Tensor, "example pos"]:
        """Each example takes its own n_symbols + length words of the stream."""
        n_examples, per_example = stop - start, self.n_symbols + self.length
        words = random_words(seed, stream, start * per_example, n_examples * per_example).reshape(-1, per_example)
        cycles = words[:, : self.n_symbols].argsort(axis=1, kind="stable")[:, : self.period]
        draws = as_uniform(words[:, self.n_symbols :])
        restarts = draws < self.restart
        restarts[:, 0] = True
        # a draw below `restart` is itself uniform below it, so it also tells where the cycle goes on
        places = np.where(np.arange(self.length) == 0, draws, draws / (self.restart or 1.0)) * self.period
        since = np.arange(self.length)
        latest = np.maximum.accumulate(np.where(restarts, since, 0), axis=1)
        place = (np.take_along_axis(places.astype(np.int64), latest, axis=1) + since - latest) % self.period
        return torch.from_numpy(np.take_along_axis(cycles, place, axis=1))
