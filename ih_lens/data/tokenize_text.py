"""From text to a token file in one call."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer

from ih_lens.data.pieces import Piece
from ih_lens.data.sources import END_OF_TEXT, TEXT_SUFFIXES, TextSource, text_source
from ih_lens.data.token_file import TokenFile, write_token_file
from ih_lens.data.tokenizer import (
    check_vocabulary_size,
    given_tokenizer,
    start_token_of,
    tokenizer_hash,
    train_tokenizer,
    vocabulary_size,
)
from ih_lens.errors import InputError
from ih_lens.progress import watched_console
from ih_lens.validate import at_least, path_of

_BATCH_CHARACTERS = 1_000_000


def tokenize_text(
    source: Any,
    out: Path | str,
    *,
    vocab_size: int | None = None,
    tokenizer: Any = None,
    start_token: str | None = None,
    separator: str | None = END_OF_TEXT,
    text_field: str = "text",
    split: str = "train",
    config: str | None = None,
    suffixes: Sequence[str] = TEXT_SUFFIXES,
    sample_characters: int = 20_000_000,
    max_tokens: int | None = None,
    progress: bool = True,
) -> TokenFile:
    """Turn text into a token file for training, in memory that does not grow with the text.

    Documents follow one another, each ended by the start token. Where the text itself spells a special token, it
    is read as ordinary characters.

    Args:
        source: a file, a folder, "python-stdlib", the name of a Hugging Face dataset (streamed), a
            `datasets` object, or a list of texts.
        out: the folder to make. If it holds the tokens of the same text, tokenizer and limits it is returned as is.
        vocab_size: size of the byte-level BPE to train on the text. Either this or `tokenizer`.
        tokenizer: a path to a tokenizer.json, a `tokenizers.Tokenizer`, or a fast tokenizer of transformers.
        start_token: the start token of a given tokenizer, where it is not the usual one.
        separator: a line that stands between two documents of one file; None if a file is one document.
        text_field: where the text is in records of .jsonl files and of datasets.
        split: split of a named dataset.
        config: configuration of a named dataset.
        suffixes: which files of a folder are text.
        sample_characters: how much of the text, from its beginning, the BPE is trained on.
        max_tokens: stop after so many tokens.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        The token file; `TokenCorpus(file.path, n_pos)` cuts it into examples.

    Raises:
        InputError: if the source cannot be read, or `out` holds something else.
        DamagedFileError: if `out` or a packed source is damaged.

    Examples:
        >>> tokenize_text("python-stdlib", "tokens/python", vocab_size=1024).d_vocab
        1024
    """
    out = path_of("out", out).absolute()
    _check_numbers(vocab_size, tokenizer, max_tokens, sample_characters)
    text = text_source(
        source, separator=separator, text_field=text_field, split=split, config=config, suffixes=suffixes
    )
    given = None if tokenizer is None else given_tokenizer(tokenizer)
    bos_name = start_token or getattr(tokenizer, "bos_token", None)
    trained = {"kind": "trained", "vocab_size": vocab_size, "sample_characters": sample_characters}
    used = trained if given is None else {"kind": "given", "sha256": tokenizer_hash(given), "start_token": bos_name}
    description = {"text": text.describe(), "tokenizer": used, "max_tokens": max_tokens}
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return _existing(out, description)
    with _progress(progress) as bar:
        if given is None:
            task = bar.add_task("training the tokenizer")
            given = train_tokenizer(text.pieces(), vocab_size or 0, n_characters=sample_characters)
            bar.remove_task(task)
        bos = start_token_of(given, bos_name)
        return write_token_file(
            out,
            _shown(_token_chunks(text, given, bos, max_tokens), bar),
            tokenizer=given,
            d_vocab=vocabulary_size(given),
            bos=bos,
            description=description,
        )


def _check_numbers(vocab_size: int | None, tokenizer: Any, max_tokens: int | None, sample_characters: int) -> None:
    """Refuse what cannot be, before all of the text is read to describe it."""
    if (vocab_size is None) == (tokenizer is None):
        raise InputError("give either vocab_size, to train a tokenizer on the text, or tokenizer, to use that one")
    if vocab_size is not None:
        check_vocabulary_size(vocab_size)
    if max_tokens is not None:
        at_least("max_tokens", max_tokens, 1)
    at_least("sample_characters", sample_characters, 1)


def _existing(out: Path, description: dict[str, Any]) -> TokenFile:
    """The token file that is there, if it is the one that was asked for."""
    found = TokenFile.open(out)
    different = [part for part, value in description.items() if found.description.get(part) != value]
    if different:
        raise InputError(
            f"{out} holds tokens made with another {' and '.join(different)}: {found.description}, not {description}; "
            "write to another folder, or remove this one"
        )
    return found


def _token_chunks(
    text: TextSource, tokenizer: Tokenizer, bos: int, max_tokens: int | None
) -> Iterator[NDArray[np.int64]]:
    """The ids of the text in order, about a million characters at a time."""
    left = max_tokens
    tokenizer.encode_special_tokens = True  # text that spells a special token is no special token
    for batch in _batches(text.pieces()):
        ids: list[int] = []
        encoded = tokenizer.encode_batch_fast([piece.text for piece in batch], add_special_tokens=False)
        for piece, encoding in zip(batch, encoded, strict=True):
            ids.extend(encoding.ids)
            if piece.ends_document:
                ids.append(bos)
        chunk = np.array(ids, dtype=np.int64)[:left]
        yield chunk
        if left is not None:
            left -= len(chunk)
            if not left:
                return


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces in lists of about a million characters: enough for every core, and little memory."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _progress(wanted: bool) -> Progress:
    """A line on standard error while it is a terminal; how much is still to come is not known."""
    console = watched_console(wanted)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=console is None)


def _shown(chunks: Iterator[NDArray[np.int64]], bar: Progress) -> Iterator[NDArray[np.int64]]:
    """The same chunks, counted in the progress line."""
    task, n_tokens = bar.add_task("tokenizing"), 0
    for chunk in chunks:
        n_tokens += len(chunk)
        bar.update(task, description=f"tokenizing: {n_tokens / 1e6:.1f} million tokens")
        yield chunk
