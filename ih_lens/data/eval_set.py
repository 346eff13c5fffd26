"""The evaluation set: the same examples for every snapshot and model that is compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import save
from torch import Tensor

from ih_lens.atomic import write_bytes
from ih_lens.data.corpus import int64_bytes
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.errors import DamagedFileError
from ih_lens.reading import cut_short, parse_json, read_tensors_and_texts
from ih_lens.validate import token_batch

_DTYPES = (torch.int64, torch.int64, torch.uint64)


@dataclass(frozen=True, eq=False)
class EvalSet:
    """Examples of one length with one random context index each, fixed by a seed; made by `from_tokens`.

    The paper's is 10,000 examples of 512 tokens ("Data Collection", per-token losses).

    Attributes:
        tokens: ids [example, pos].
        random_index: per example the context index 1..n_pos-1 of the token whose loss stands for the example.
        seed: what `random_index` was drawn from.
        fingerprint: sha256 of tokens, shape and random_index; results on equal fingerprints can be compared.
        description: where the tokens come from, for the provenance of results; no part of the fingerprint.
    """

    tokens: Int[Tensor, "example pos"]
    random_index: Int[Tensor, "example"]
    seed: int
    fingerprint: str
    description: Mapping[str, Any] | None = None

    @classmethod
    def from_tokens(cls, tokens: Tensor, *, seed: int = 0, description: Mapping[str, Any] | None = None) -> "EvalSet":
        """Fix an evaluation set from ids [example, pos] of any length from 2 on.

        Args:
            tokens: the ids.
            seed: of the random context indices.
            description: what to record about where the tokens come from, ready for JSON.

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
        return cls(kept, random_index, seed, _fingerprint(kept, random_index), description)

    def save(self, path: str | Path) -> Path:
        """Write the evaluation set as one safetensors file, in one step.

        Examples:
            >>> evals.save("evals.safetensors")
            PosixPath('evals.safetensors')
        """
        tensors = {
            "tokens": self.tokens,
            "random_index": self.random_index,
            "seed": torch.tensor(self.seed, dtype=torch.uint64, device="cpu"),
        }
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        metadata = None if self.description is None else {"description": json.dumps(self.description, sort_keys=True)}
        write_bytes(Path(path), save(contiguous, metadata))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, fingerprint: str | None = None) -> "EvalSet":
        """Read what `save` wrote.

        Args:
            path: the file.
            fingerprint: what the examples must have, if it is known.

        Raises:
            DamagedFileError: if there is no such file, or another content than expected.
        """
        tensors, texts = read_tensors_and_texts(Path(path))
        if set(tensors) != {"tokens", "random_index", "seed"}:
            raise DamagedFileError(
                f"{path} holds no evaluation set but {cut_short(', '.join(tensors))}; write it with save()"
            )
        if not _is_sound(tensors):
            raise DamagedFileError(
                f"{path}: expected ids [example, pos] and an index inside each example, all of 64 bits; "
                "restore it from a copy"
            )
        found = _fingerprint(tensors["tokens"], tensors["random_index"])
        if fingerprint not in (None, found):
            raise DamagedFileError(
                f"{path} holds examples of the fingerprint {found}, expected was {fingerprint}; restore it from a copy"
            )
        seed = int(tensors["seed"].numpy())
        return cls(tensors["tokens"], tensors["random_index"], seed, found, _description(texts, Path(path)))

    @property
    def n_examples(self) -> int:
        """How many examples there are."""
        return self.tokens.shape[0]

    @property
    def n_pos(self) -> int:
        """Tokens per example."""
        return self.tokens.shape[1]


def _is_sound(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these can be the tensors of an evaluation set."""
    tokens, random_index, seed = tensors["tokens"], tensors["random_index"], tensors["seed"]
    fits = tokens.ndim == 2 and len(tokens) and tokens.shape[1] >= 2 and random_index.shape == tokens.shape[:1]
    if not fits or seed.ndim or (tokens.dtype, random_index.dtype, seed.dtype) != _DTYPES:
        return False
    return bool(tokens.min() >= 0) and int(random_index.min()) >= 1 and int(random_index.max()) < tokens.shape[1]


def _description(texts: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """What `save` wrote beside the tensors."""
    if "description" not in texts:
        return None
    description = parse_json(texts["description"], path)
    if not isinstance(description, dict):
        raise DamagedFileError(f"{path}: its description is no JSON object; restore it from a copy")
    return description


def _fingerprint(tokens: Int[Tensor, "example pos"], random_index: Int[Tensor, "example"]) -> str:
    parts = (torch.tensor(tokens.shape, device="cpu"), tokens, random_index)
    return hashlib.sha256(b"".join(int64_bytes(part) for part in parts)).hexdigest()
