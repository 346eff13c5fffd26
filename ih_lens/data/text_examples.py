"""Examples of text for a model that somebody else trained, cut by the model's own tokenizer."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.pieces import Piece
from ih_lens.data.sources import END_OF_TEXT, TEXT_SUFFIXES, text_source
from ih_lens.data.start_tokens import StartToken, choose_start_token, end_of_text_token
from ih_lens.data.tokenizer import given_tokenizer
from ih_lens.errors import InputError
from ih_lens.progress import with_progress
from ih_lens.validate import at_least

_LONGEST_DEFAULT = 512
"""Tokens per example in the paper's evaluation set."""
_BATCH_CHARACTERS = 1_000_000
_CHARACTERS_PER_TOKEN = 4

Encode = Callable[[list[str]], list[list[int]]]


def text_examples(
    model: Any,
    source: Any,
    *,
    n_examples: int,
    n_pos: int | None = None,
    bos: int | str | None = "auto",
    seed: int = 0,
    separator: str | None = END_OF_TEXT,
    text_field: str = "text",
    split: str = "train",
    config: str | None = None,
    suffixes: Sequence[str] = TEXT_SUFFIXES,
    progress: bool = True,
) -> EvalSet:
    """Turn text into an evaluation set with the model's own tokenizer.

    The text is read from its beginning, and only as much of it as the examples need; its tokens follow one another
    from example to example. Each example begins with the start token, once, whatever the tokenizer would add by
    itself. Between two documents stands the tokenizer's end-of-text token, or else the start token; where an example
    would begin with it, it is left out. Text that spells a special token is read as ordinary characters.

    Args:
        model: anything with `.cfg` (d_vocab, n_ctx) and `.tokenizer`; it is not run.
        source: a file, a folder, "python-stdlib", the name of a Hugging Face dataset (streamed), a `datasets`
            object, or a list of texts.
        n_examples: how many.
        n_pos: tokens per example, start token included; by default 512, or the model's context if that is shorter.
        bos: the start token: "auto" for the tokenizer's (its end-of-text token where it has none), an id, or None
            for none.
        seed: of the random context index of each example; the tokens do not depend on it.
        separator: a line that stands between two documents of one file; None if a file is one document.
        text_field: where the text is in records of .jsonl files and of datasets.
        split: split of a named dataset.
        config: configuration of a named dataset.
        suffixes: which files of a folder are text.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        The examples; `.description` tells the source, the start token and the separator.

    Raises:
        InputError: if the model has no tokenizer or another model's, an example does not fit the context, the
            source cannot be read, or its text is too short.

    Examples:
        >>> evals = text_examples(load_model("gpt2"), "python-stdlib", n_examples=100)
        >>> evals.tokens.shape
        torch.Size([100, 512])
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError(
            "the model has no tokenizer, so text cannot be turned into its tokens; give it one "
            "(load_model(..., tokenizer=)), or make ids yourself: EvalSet.from_tokens(tokens)"
        )
    at_least("n_examples", n_examples, 1)
    n_pos = _fitting_length(n_pos, model.cfg.n_ctx)
    start = choose_start_token(model, bos)
    text = text_source(
        source, separator=separator, text_field=text_field, split=split, config=config, suffixes=suffixes
    )
    stream = _TokenStream(text.pieces(), text_encoder(tokenizer), _between_documents(model, start), model.cfg.d_vocab)
    first = [] if start.id is None else [start.id]
    of_text = stream.rows(n_examples, n_pos - len(first))
    what = f"tokenizing {n_examples:,} examples"
    rows = [first + row for row in with_progress(of_text, what, total=n_examples, show=progress)]
    if len(rows) < n_examples:
        raise InputError(
            f"n_examples: {n_examples} were asked for, and the text is enough for {len(rows)} examples of {n_pos} "
            f"tokens ({stream.n_tokens} tokens in all); ask for fewer or shorter ones, or give more text"
        )
    description = {"kind": "text", "source": _name(source), **stream.description, **start.description}
    return EvalSet.from_tokens(torch.tensor(rows, device="cpu"), seed=seed, description=description)


class _TokenStream:
    """Ids of a text in order, read as far as needed.

    Args:
        pieces: the text.
        encode: from texts to ids without special ones.
        between: the id between two documents, None for nothing.
        d_vocab: ids must be smaller.
    """

    def __init__(self, pieces: Iterator[Piece], encode: Encode, between: int | None, d_vocab: int) -> None:
        self._pieces, self._encode, self._between, self._d_vocab = pieces, encode, between, d_vocab
        self._digest = hashlib.sha256()
        self.n_tokens = 0

    def rows(self, n_rows: int, width: int) -> Iterator[list[int]]:
        """As many rows as there are text and need for; none begins with the id between documents."""
        waiting: list[int] = []
        n_made = 0
        while ids := self._more((n_rows - n_made) * width):
            waiting += ids
            place = 0
            while n_made < n_rows:
                while place < len(waiting) and waiting[place] == self._between:
                    place += 1
                if len(waiting) - place < width:
                    break
                yield waiting[place : place + width]
                place, n_made = place + width, n_made + 1
            if n_made == n_rows:
                return
            del waiting[:place]

    @property
    def description(self) -> dict[str, Any]:
        """What was read, and what stands between documents."""
        between = "none" if self._between is None else self._between
        return {"read_sha256": self._digest.hexdigest(), "between_documents": between}

    def _more(self, n_tokens: int) -> list[int]:
        """The next ids, about as many as are still needed; none at the end of the text."""
        batch: list[Piece] = []
        limit, size = min(_BATCH_CHARACTERS, _CHARACTERS_PER_TOKEN * n_tokens), 0
        while size < limit and (piece := next(self._pieces, None)) is not None:
            batch.append(piece)
            size += len(piece.text)
            self._digest.update(piece.text.encode(errors="surrogatepass") + bytes([piece.ends_document]))
        ids: list[int] = []
        for piece, of_piece in zip(batch, self._encode([piece.text for piece in batch]), strict=True):
            ids += of_piece
            if piece.ends_document and self._between is not None:
                ids.append(self._between)
        if ids and max(ids) >= self._d_vocab:
            raise InputError(
                f"the tokenizer gives the id {max(ids)}, but the model's vocabulary has {self._d_vocab} ids; it is the "
                "tokenizer of another model"
            )
        self.n_tokens += len(ids)
        return ids or (self._more(n_tokens) if batch else ids)


def literal_tokenizer(tokenizer: Any) -> Tokenizer | None:
    """A copy that reads no special token out of a text, where there is a tokenizer of the `tokenizers` library."""
    if not isinstance(getattr(tokenizer, "backend_tokenizer", tokenizer), Tokenizer):
        return None
    own = given_tokenizer(tokenizer)
    own.encode_special_tokens = True
    return own


def text_encoder(tokenizer: Any) -> Encode:
    """From texts to ids: no special token is added, and none is read out of the text."""
    own = literal_tokenizer(tokenizer)
    if own is not None:
        return lambda texts: [encoding.ids for encoding in own.encode_batch_fast(texts, add_special_tokens=False)]
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return lambda texts: [list(tokenizer(text, **options)["input_ids"]) for text in texts]


def _between_documents(model: Any, start: StartToken) -> int | None:
    end = end_of_text_token(model)
    return start.id if end is None else end


def _fitting_length(n_pos: int | None, n_ctx: int) -> int:
    """Tokens per example that the context can hold."""
    if n_pos is None:
        return min(n_ctx, _LONGEST_DEFAULT)
    if at_least("n_pos", n_pos, 2) > n_ctx:
        raise InputError(f"n_pos: examples of {n_pos} tokens do not fit the model's context of {n_ctx}; ask for less")
    return n_pos


def _name(source: Any) -> str:
    """What to call the source in results."""
    return str(source) if isinstance(source, str | Path) else type(source).__name__
