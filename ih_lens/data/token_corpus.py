"""Training examples cut from a token file that may be larger than memory."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from ih_lens.data.corpus import fingerprinted, require_held_out, require_range
from ih_lens.data.streams import Stream, permutation
from ih_lens.data.token_file import TokenFile
from ih_lens.errors import InputError
from ih_lens.validate import at_least


class TokenCorpus:
    """Windows of a token file, each begun with the start token, in a random order that `data_seed` fixes.

    The stream of ids is cut into windows that do not overlap. One window in `held_out_every`, spread evenly over
    the file, is kept from training whatever the seed; each other one is trained on once. Only the windows that
    are asked for are read from disk. Corpora can be pickled and used in forked processes.

    Args:
        path: the folder that `tokenize_text` made.
        n_pos: tokens per example, the start token among them.
        start_token: begin every example with the file's start token; without it examples are `n_pos` ids of text.
        held_out_every: keep every so many-th window from training.
        verify: check the file's hash first.

    Attributes:
        file: the token file.
        n_pos: tokens per example.
        bos: the id that begins every example, or None.
        counts: how often each id occurs in the file [d_vocab], for `repeated_random_tokens(model, counts=...)`.

    Raises:
        InputError: if the file is too short for one example to train on.
        DamagedFileError: if the file is damaged.

    Examples:
        >>> corpus = TokenCorpus("tokens/python", 512)
        >>> corpus.examples(0, 8, data_seed=0).shape
        torch.Size([8, 512])
    """

    def __init__(
        self,
        path: Path | str,
        n_pos: int,
        *,
        start_token: bool = True,
        held_out_every: int = 20,
        verify: bool = True,
    ) -> None:
        at_least("n_pos", n_pos, 2)
        at_least("held_out_every", held_out_every, 2)
        self.file = TokenFile.open(path, verify=verify)
        self.n_pos = n_pos
        self.bos: int | None = self.file.bos if start_token else None
        self._width = n_pos - 1 if start_token else n_pos
        self._every = held_out_every
        n_windows = self.file.n_tokens // self._width
        # window k is held out if k % every is the middle of 0..every-1
        self._n_held_out = (n_windows + held_out_every - 1 - held_out_every // 2) // held_out_every
        self.n_examples: int | None = n_windows - self._n_held_out
        if not self.n_examples:
            raise InputError(
                f"{self.file.path} holds {self.file.n_tokens} tokens, too few for an example of {n_pos}; "
                "use shorter examples or tokenize more text"
            )

    @property
    def d_vocab(self) -> int:
        """Size of the tokenizer's vocabulary."""
        return self.file.d_vocab

    @property
    def counts(self) -> Int[Tensor, "d_vocab"]:
        """How often each id occurs in the file."""
        return torch.tensor(self.file.counts, device="cpu")

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that made the ids; read anew each time."""
        return self.file.tokenizer()

    def describe(self) -> dict[str, Any]:
        """The file's fingerprint and origin, and how it is cut."""
        return fingerprinted(
            {
                "kind": "token_file",
                "tokens_sha256": self.file.fingerprint,
                "n_tokens": self.file.n_tokens,
                "d_vocab": self.d_vocab,
                "n_pos": self.n_pos,
                "bos": self.bos,
                "held_out_every": self._every,
                "n_held_out": self._n_held_out,
                "origin": self.file.description,
            }
        )

    def examples(self, start: int, stop: int, *, data_seed: int) -> Int[Tensor, "example pos"]:
        """The examples at positions `start` to `stop` of the order that belongs to `data_seed`."""
        n_examples = self.n_examples or 0
        require_range(start, stop, n_examples)
        chosen = permutation(data_seed, Stream.ORDER, n_examples)[start:stop]
        # every block of `every` windows gives every - 1 to training: all but the middle one
        block, place = np.divmod(chosen, self._every - 1)
        return self._windows(block * self._every + place + (place >= self._every // 2))

    def held_out(self, n: int) -> Int[Tensor, "example pos"]:
        """The first `n` windows that are never trained on, from all over the file."""
        require_held_out(n, self._n_held_out, "share held out (a smaller held_out_every) or more text")
        chosen = permutation(0, Stream.HELD_OUT_ROWS, self._n_held_out)[:n]
        return self._windows(chosen * self._every + self._every // 2)

    def _windows(self, windows: NDArray[np.int64]) -> Int[Tensor, "example pos"]:
        """Read the windows of these numbers."""
        stream = self.file.tokens()
        whole = stream[: len(stream) // self._width * self._width].reshape(-1, self._width)
        tokens = torch.from_numpy(whole[windows].astype(np.int64))
        return tokens if self.bos is None else torch.nn.functional.pad(tokens, (1, 0), value=self.bos)
