"""Markov chains learned in context: each sequence has a chain of its own (Edelman et al. 2024)."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ih_lens.data.corpus import fingerprinted
from ih_lens.data.generated_task import GeneratedTask
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.validate import at_least, one_of, token_batch

PREDICTORS = ("uniform", "unigram", "bigram")
_N_FLOOR = 4096


@dataclass(frozen=True)
class MarkovChains(GeneratedTask):
    """Every sequence is drawn from a Markov chain of its own, whose rows are uniform over all distributions.

    The first token comes from the chain's stationary distribution. A model can guess uniformly, then count tokens, then
    count pairs, which is induction: `reference_losses` gives what each of these reaches.

    Args:
        n_states: size of the vocabulary.
        length: tokens per example.

    Raises:
        InputError: if the numbers are too small.

    Examples:
        >>> MarkovChains(n_states=3).examples(0, 32, data_seed=0).shape
        torch.Size([32, 64])
    """

    n_states: int = 3
    length: int = 64

    def __post_init__(self) -> None:
        at_least("n_states", self.n_states, 2)
        at_least("length", self.length, 2)

    @property
    def n_pos(self) -> int:
        """Tokens per example."""
        return self.length

    @property
    def d_vocab(self) -> int:
        """Token ids lie in 0..n_states-1."""
        return self.n_states

    @cached_property
    def theoretical_floor(self) -> float:
        """Entropy in nats of the next token once the chain is known, mean of 4096 chains: no mean loss is lower."""
        chains, _ = self._draw(0, Stream.TASK, 0, _N_FLOOR)
        stationary = _stationary(chains)
        entropies = -(chains * np.log(np.maximum(chains, 1e-300))).sum(axis=-1)
        return float((stationary * entropies).sum(axis=-1).mean())

    def describe(self) -> dict[str, Any]:
        """The parameters and their fingerprint, ready for JSON."""
        return fingerprinted({"kind": "markov_chains", "version": 1, **asdict(self)})

    def reference_losses(self, tokens: Int[Tensor, "example pos"], predictor: str) -> Float[Tensor, "example index"]:
        """Losses of a predictor that knows the task but not the chain, in nats; column c is context index c + 1.

        Args:
            tokens: examples.
            predictor: "uniform"; "unigram", which counts tokens; or "bigram", which counts what followed the same
                token before. Counts begin at one, so that "bigram" is the posterior mean of the row that is asked for.
        """
        token_batch(tokens, d_vocab=self.n_states, min_length=2)
        one_of("predictor", predictor, PREDICTORS)
        if predictor == "uniform":
            return torch.full(
                (len(tokens), tokens.shape[1] - 1), math.log(self.n_states), dtype=torch.float64, device="cpu"
            )
        one_hot = torch.nn.functional.one_hot(tokens.long(), self.n_states).double()
        if predictor == "unigram":
            counts = one_hot.cumsum(dim=1)[:, :-1]
        else:
            pairs = one_hot[:, :-1, :, None] * one_hot[:, 1:, None, :]
            before = torch.nn.functional.pad(pairs.cumsum(dim=1)[:, :-1], (0, 0, 0, 0, 1, 0))
            counts = (before * one_hot[:, :-1, :, None]).sum(dim=2)
        probabilities = (counts + 1) / (counts.sum(dim=-1, keepdim=True) + self.n_states)
        return -probabilities.gather(-1, tokens[:, 1:, None].long())[..., 0].log()

    def _generate(self, seed: int, stream: Stream, start: int, stop: int) -> Int[Tensor, "example pos"]:
        chains, draws = self._draw(seed, stream, start, stop)
        cumulative = chains.cumsum(axis=-1)
        tokens = np.zeros((stop - start, self.length), dtype=np.int64)
        tokens[:, 0] = _choose(_stationary(chains).cumsum(axis=-1), draws[:, 0])
        rows = np.arange(stop - start)
        for place in range(1, self.length):
            tokens[:, place] = _choose(cumulative[rows, tokens[:, place - 1]], draws[:, place])
        return torch.from_numpy(tokens)

    def _draw(
        self, seed: int, stream: Stream, start: int, stop: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Transition matrices [example, from, to], and a uniform number per token."""
        per_example = self.n_states**2 + self.length
        words = random_words(seed, stream, start * per_example, (stop - start) * per_example)
        uniform = as_uniform(words).reshape(stop - start, per_example)
        exponential = -np.log1p(-uniform[:, : self.n_states**2]).reshape(-1, self.n_states, self.n_states)
        return exponential / exponential.sum(axis=-1, keepdims=True), uniform[:, self.n_states**2 :]


def _stationary(chains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution that each chain keeps, [example, state]."""
    n_states = chains.shape[-1]
    equations = chains.swapaxes(-1, -2) - np.eye(n_states)
    equations[:, -1] = 1
    right = np.zeros((len(chains), n_states, 1))
    right[:, -1] = 1
    return np.linalg.solve(equations, right)[..., 0].astype(np.float64)


def _choose(cumulative: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first state whose cumulative probability exceeds a uniform number."""
    return np.minimum((cumulative <= uniform[:, None]).sum(axis=-1), cumulative.shape[-1] - 1)
