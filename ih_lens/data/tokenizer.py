"""The tokenizer of a text corpus: a byte-level BPE trained on the text, or one that is given."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ih_lens.data.pieces import Piece
from ih_lens.data.sources import END_OF_TEXT
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.reading import read_tokenizer
from ih_lens.validate import at_least, path_of

_START_TOKENS = (END_OF_TEXT, "<|begin_of_text|>", "<s>", "<bos>", "[CLS]")
_N_BYTES = 256
_MOST_TOKENS = 10_000_000
"""Far beyond any vocabulary in use; for much larger ones `tokenizers` ends the process for want of memory."""


def train_tokenizer(pieces: Iterator[Piece], vocab_size: int, *, n_characters: int) -> Tokenizer:
    """Train a byte-level BPE on the first `n_characters` of the text.

    Id 0 is the end-of-text token, ids 1 to 256 are the bytes, and the merges follow in the order in which they
    were found, so that ids stand in the order of merge rank.

    Raises:
        InputError: if the vocabulary has no room for the bytes, or the text is too small for so many tokens.
    """
    check_vocabulary_size(vocab_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_first(pieces, n_characters), trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise InputError(
            f"vocab_size: the text allows a vocabulary of {tokenizer.get_vocab_size()}, {vocab_size} was asked for; "
            "ask for a smaller one or give more text"
        )
    return tokenizer


def check_vocabulary_size(vocab_size: int) -> None:
    """Refuse a vocabulary that has no room for the bytes, or is larger than any.

    Raises:
        InputError: if it is one.
    """
    if at_least("vocab_size", vocab_size, _N_BYTES + 1) > _MOST_TOKENS:
        raise InputError(f"vocab_size: expected at most {_MOST_TOKENS:,}, got {vocab_size}; ask for less")


def given_tokenizer(given: Any) -> Tokenizer:
    """A copy of a tokenizer: a `tokenizers.Tokenizer`, a fast tokenizer of transformers, or a path to tokenizer.json.

    Raises:
        InputError: for anything else.
    """
    backend = getattr(given, "backend_tokenizer", given)
    if isinstance(backend, Tokenizer):
        return _plain(Tokenizer.from_str(backend.to_str()))
    if isinstance(given, str | Path):
        path = path_of("tokenizer", given)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            return _plain(read_tokenizer(path, "give the path of another one"))
        except DamagedFileError as error:
            raise InputError(f"tokenizer: {error}") from error
    raise InputError(
        "tokenizer: expected the path of a tokenizer.json, a tokenizers.Tokenizer or a fast tokenizer of "
        f"transformers, got {type(given).__name__}"
    )


def start_token_of(tokenizer: Tokenizer, name: str | None = None) -> int:
    """The id that begins examples and ends documents: of `name`, else of the first usual name in the vocabulary.

    Raises:
        InputError: if there is none.
    """
    names = _START_TOKENS if name is None else (name,)
    for candidate in names:
        token = tokenizer.token_to_id(candidate)
        if token is not None:
            return token
    raise InputError(
        f"the tokenizer's vocabulary has no start token {' or '.join(names)}; name the one to use with start_token="
    )


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """What identifies a tokenizer: sha256 of its JSON."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without padding and truncation, which have no place in a stream of tokens."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _first(pieces: Iterator[Piece], n_characters: int) -> Iterator[str]:
    """The texts of the pieces until there are enough characters."""
    seen = 0
    for piece in pieces:
        yield piece.text[: n_characters - seen]
        seen += len(piece.text)
        if seen >= n_characters:
            return
