"""The text of single tokens, for display."""

import re
from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from ih_lens.errors import InputError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A byte that SentencePiece falls back to for characters that it does not know."""
_WORD_START = "▁"
"""SentencePiece's space."""
_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for bytes that are no character."""


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for, as GPT-2 set it."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def token_texts(model: Any, tokens: Int[Tensor, "pos"] | Sequence[int]) -> list[str]:
    r"""The text of each id on its own, as a model's tokenizer has it.

    Leading spaces are kept, also those that SentencePiece drops at the beginning of a text. Bytes that make up only
    a part of a character stand as \xe6, special tokens as they are spelled, and ids that the tokenizer does not
    have as <id 50300>. Without a tokenizer the text is the id.

    Args:
        model: its `.tokenizer` is asked, where it has one.
        tokens: ids of one example.

    Returns:
        One text per id; `ih_lens.viz.visible_tokens` makes white space visible.

    Raises:
        InputError: if these are no ids, or those of several examples.

    Examples:
        >>> texts = token_texts(load_model("gpt2"), [464, 3290, 198])  # ["The", " dog", "\n"]
        >>> token_texts(None, [464, 198])
        ['464', '198']
    """
    if isinstance(tokens, str) or (isinstance(tokens, Tensor) and tokens.ndim != 1):
        came = repr(tokens)[:50] if isinstance(tokens, str) else tuple(tokens.shape)
        raise InputError(f"tokens: expected the ids of one example [pos], got {came}; pass ids, and those of one")
    ids = [int(token) for token in tokens]
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return [str(number) for number in ids]
    known = {number: _text(tokenizer, number) for number in set(ids)}
    return [known[number] for number in ids]


def _text(tokenizer: Any, number: int) -> str:
    piece = tokenizer.convert_ids_to_tokens(number) if 0 <= number < len(tokenizer) else None
    if piece is None:
        return f"<id {number}>"
    text = tokenizer.decode([number], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if (byte := _BYTE.fullmatch(piece)) and text != piece:
        return bytes.fromhex(byte[1]).decode("ascii", errors="backslashreplace")
    if _NO_CHARACTER in text and all(character in _BYTES for character in piece):
        return bytes(_BYTES[character] for character in piece).decode("utf8", errors="backslashreplace")
    n_spaces = len(piece) - len(piece.lstrip(_WORD_START))
    return " " * n_spaces + text.lstrip(" ") if n_spaces else text
