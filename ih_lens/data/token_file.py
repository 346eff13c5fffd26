"""A corpus of token ids on disk: one flat binary file that is mapped into memory, and what it is beside it."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ih_lens.atomic import new_folder, to_json_bytes
from ih_lens.data.tokenizer import vocabulary_size
from ih_lens.errors import DamagedFileError, InputError, StorageError
from ih_lens.models.files import entry, file_inside, read_record
from ih_lens.reading import read_tokenizer, sha256_of
from ih_lens.validate import path_of

_FORMAT = "ih_lens token file"
_VERSION = 1
_TOKENS, _SIDECAR, _TOKENIZER = "tokens.bin", "tokens.json", "tokenizer.json"
_REMEDY = "make the tokens anew with tokenize_text (ih-lens tokens)"


@dataclass(frozen=True)
class TokenFile:
    """A folder with the ids of a text (tokens.bin), its tokenizer (tokenizer.json) and a description (tokens.json).

    Made by `tokenize_text`, read by `TokenFile.open`. Nothing is held in memory but the description.

    Attributes:
        path: the folder.
        n_tokens: ids in the file, end-of-text tokens among them.
        d_vocab: size of the vocabulary.
        bos: the id that ends every document here and begins every training example.
        counts: how often each id occurs [d_vocab].
        fingerprint: sha256 of the ids.
        description: text and tokenizer that the ids came from.
    """

    path: Path
    n_tokens: int
    d_vocab: int
    bos: int
    counts: tuple[int, ...]
    fingerprint: str
    description: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> "TokenFile":
        """Read the description and check the files against it.

        Args:
            path: the folder.
            verify: compare the hash of the ids as well, which reads all of them once (about a second per gigabyte).

        Raises:
            InputError: if there is no such folder.
            DamagedFileError: if the folder is something else, of another version, cut short or altered.
        """
        path = path_of("path", path).absolute()
        if not path.is_dir():
            raise InputError(f"{path} is no folder of tokens; {_REMEDY}")
        try:
            sidecar = read_record(path, _SIDECAR, kind=_FORMAT, version=_VERSION)
            opened = cls._described(path, sidecar)
            opened._check_files(entry(sidecar, "tokenizer_sha256", str, path / _SIDECAR), verify)
        except (DamagedFileError, OSError) as error:
            raise DamagedFileError(f"{error}, or {_REMEDY}") from error
        return opened

    @classmethod
    def _described(cls, path: Path, sidecar: dict[str, Any]) -> "TokenFile":
        """What the description says of a folder, of the right types."""
        file = path / _SIDECAR
        return cls(
            path=path,
            n_tokens=entry(sidecar, "n_tokens", int, file),
            d_vocab=entry(sidecar, "d_vocab", int, file),
            bos=entry(sidecar, "bos", int, file),
            counts=tuple(entry(sidecar, "counts", list, file)),
            fingerprint=entry(sidecar, "fingerprint", str, file),
            description=entry(sidecar, "description", dict, file),
        )

    def tokens(self) -> NDArray[np.integer[Any]]:
        """All ids, mapped into memory and read-only; opened anew at each call, so processes share no state."""
        return np.memmap(self.path / _TOKENS, dtype=_dtype_for(self.d_vocab), mode="r", shape=(self.n_tokens,))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids.

        Raises:
            DamagedFileError: if the file is no tokenizer, or one of another vocabulary.
        """
        path = file_inside(self.path, _TOKENIZER)
        tokenizer = read_tokenizer(path, _REMEDY)
        if not 0 < vocabulary_size(tokenizer) <= self.d_vocab:
            raise DamagedFileError(
                f"{path} has a vocabulary of {vocabulary_size(tokenizer)} where {self.d_vocab} are expected; {_REMEDY}"
            )
        return tokenizer

    def _check_files(self, tokenizer_sha256: str, verify: bool) -> None:
        """Sizes and hashes, and whether the ids lie in the vocabulary."""
        tokens, tokenizer = file_inside(self.path, _TOKENS), file_inside(self.path, _TOKENIZER)
        expected, size = self.n_tokens * _dtype_for(self.d_vocab).itemsize, tokens.stat().st_size
        if not size or size != expected or not self._counts_fit():
            raise DamagedFileError(
                f"{tokens} has {size} bytes where {expected} are expected, or its counts do not fit; "
                "it was cut short or altered"
            )
        if self.bos >= self.d_vocab:
            raise DamagedFileError(f"{self.path / _SIDECAR}: the start token {self.bos} is not in the vocabulary")
        if sha256_of(tokenizer) != tokenizer_sha256:
            raise DamagedFileError(f"{tokenizer} is not the tokenizer that made these tokens")
        if verify and sha256_of(tokens) != self.fingerprint:
            raise DamagedFileError(f"{tokens} was altered: its hash is another one")
        if verify and (highest := int(self.tokens().max())) >= self.d_vocab:
            raise DamagedFileError(f"{tokens} holds the id {highest}, outside the vocabulary of {self.d_vocab}")

    def _counts_fit(self) -> bool:
        """Whether there is one count per id of the vocabulary, and together they are all ids."""
        known = all(type(count) is int and count >= 0 for count in self.counts)
        return known and len(self.counts) == self.d_vocab and sum(self.counts) == self.n_tokens


def write_token_file(
    out: Path,
    chunks: Iterable[NDArray[np.integer[Any]]],
    *,
    tokenizer: Tokenizer,
    d_vocab: int,
    bos: int,
    description: dict[str, Any],
) -> TokenFile:
    """Write ids as they come; the folder `out` appears only when all is written.

    Raises:
        InputError: if there are no ids, or the folder cannot be made.
        StorageError: if the disk is full, or the folder that it is to lie in cannot be written.
    """
    try:
        with new_folder(out) as folder:
            _fill(folder, chunks, tokenizer, {"d_vocab": d_vocab, "bos": bos, "description": description})
    except StorageError:
        raise
    except OSError as error:
        raise InputError(
            f"{out} cannot be made ({error}); choose another folder, or call again if it came into being meanwhile"
        ) from error
    return TokenFile.open(out, verify=False)


def _fill(
    folder: Path, chunks: Iterable[NDArray[np.integer[Any]]], tokenizer: Tokenizer, record: dict[str, Any]
) -> None:
    """Write ids, tokenizer and the record of them."""
    counts, digest = _write_tokens(folder / _TOKENS, chunks, record["d_vocab"])
    if not counts.any():
        raise InputError("the source holds no text; check its path, the suffixes and the text field")
    tokenizer.save(str(folder / _TOKENIZER))
    sidecar = {
        "format": _FORMAT,
        "version": _VERSION,
        "n_tokens": int(counts.sum()),
        "dtype": _dtype_for(record["d_vocab"]).name,
        "fingerprint": digest,
        "tokenizer_sha256": sha256_of(folder / _TOKENIZER),
        **record,
        "counts": counts.tolist(),
    }
    (folder / _SIDECAR).write_bytes(to_json_bytes(sidecar))


def _write_tokens(
    path: Path, chunks: Iterable[NDArray[np.integer[Any]]], d_vocab: int
) -> tuple[NDArray[np.int64], str]:
    """Append every chunk; count the ids and hash them on the way."""
    counts, digest, dtype = np.zeros(d_vocab, dtype=np.int64), hashlib.sha256(), _dtype_for(d_vocab)
    with path.open("wb") as file:
        for chunk in chunks:
            counts += np.bincount(chunk, minlength=d_vocab)
            data = chunk.astype(dtype).tobytes()
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return counts, digest.hexdigest()


def _dtype_for(d_vocab: int) -> np.dtype[Any]:
    """The smallest integer that holds every id, little-endian on every machine."""
    return np.dtype("<u2" if d_vocab <= 2**16 else "<u4")
