"""The evaluation set: the same examples for every snapshot and model that is compared."""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.corpus import int64_bytes
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.validate import token_batch


@dataclass(frozen=True, eq=False)
class EvalSet:
    """Examples of one length with one random context index each, fixed by a seed; made by `from_tokens`.

    The paper's is 10,000 examples of 512 tokens ("Data Collection", per-token losses).

    Attributes:
        tokens: ids [example, pos].
        random_index: per example the context index 1..n_pos-1 of the token whose loss stands for the example.
        seed: what `random_index` was drawn from.
        fingerprint: sha256 of tokens, shape and random_index; results on equal fingerprints can be compared.
    """

    tokens: Int[Tensor, "example pos"]
    random_index: Int[Tensor, "example"]
    seed: int
    fingerprint: str

    @classmethod
    def from_tokens(cls, tokens: Tensor, *, seed: int = 0) -> "EvalSet":
        """Fix an evaluation set from ids [example, pos] of any length from 2 on.

        Raises:
            InputError: if `tokens` is no integer matrix of non-negative ids.

        Examples:
            >>> evals = EvalSet.from_tokens(torch.tensor([[5, 6, 7], [1, 2, 3]]))
            >>> evals.n_examples, evals.n_pos
            (2, 3)
        """
        kept = token_batch(tokens, min_length=2).detach().to("cpu", torch.int64, copy=True)
        n_examples, n_pos = kept.shape
        draws = as_uniform(random_words(seed, Stream.RANDOM_INDEX, 0, n_examples))
        random_index = torch.from_numpy(draws * (n_pos - 1)).long() + 1
        shape = torch.tensor(kept.shape)
        digest = hashlib.sha256(b"".join(int64_bytes(part) for part in (shape, kept, random_index)))
        return cls(kept, random_index, seed, digest.hexdigest())

    @property
    def n_examples(self) -> int:
        """How many examples there are."""
        return self.tokens.shape[0]

    @property
    def n_pos(self) -> int:
        """Tokens per example."""
        return self.tokens.shape[1]
