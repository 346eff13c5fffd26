"""Tokens of a text that know which of its characters they stand for, for any tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from ih_lens.data.start_tokens import choose_start_token
from ih_lens.data.text_examples import literal_tokenizer, text_encoder
from ih_lens.errors import CapabilityError
from ih_lens.models.token_texts import token_texts

_NOWHERE = (-1, -1)


@dataclass(frozen=True)
class SpannedTokens:
    """The tokens of one text.

    Attributes:
        ids: start token included, if there is one.
        spans: the characters that each token stands for, from the first to behind the last; (-1, -1) for a start
            token.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def of(self, start: int, stop: int) -> range:
        """Positions of the tokens that hold any of the characters `start` to `stop` - 1."""
        held = [place for place, (first, behind) in enumerate(self.spans) if first < stop and behind > start]
        return range(held[0], held[-1] + 1) if held else range(0)


def span_reader(model: Any, bos: int | str | None = "auto") -> Callable[[str], SpannedTokens]:
    """From a text to its tokens with the model's own tokenizer, a start token in front.

    Text that spells a special token is read as ordinary characters.

    Raises:
        CapabilityError: if the model has no tokenizer, or one that does not tell where its tokens stand.
    """
    tokenizer = require_tokenizer(model)
    start = choose_start_token(model, bos).id
    first = () if start is None else (start,)
    encode = _with_offsets(model, tokenizer)

    def read(text: str) -> SpannedTokens:
        ids, spans = encode(text)
        return SpannedTokens((*first, *ids), (*[_NOWHERE] * len(first), *spans))

    return read


def require_tokenizer(model: Any) -> Any:
    """The model's tokenizer.

    Raises:
        CapabilityError: if there is none.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise CapabilityError(
            "the model has no tokenizer, so it cannot read the texts of behaviours; give it one with "
            "load_model(..., tokenizer=), or score heads on random tokens: score_heads(model)"
        )
    return tokenizer


def _with_offsets(model: Any, tokenizer: Any) -> Callable[[str], tuple[list[int], list[tuple[int, int]]]]:
    own = literal_tokenizer(tokenizer)
    if own is not None:

        def encode(text: str) -> tuple[list[int], list[tuple[int, int]]]:
            encoding = own.encode(text, add_special_tokens=False)
            return list(encoding.ids), list(encoding.offsets)

        return encode
    ids_of = text_encoder(tokenizer)

    def spell(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids = ids_of([text])[0]
        texts = token_texts(model, ids)
        if "".join(texts) != text:
            raise CapabilityError(
                "this tokenizer does not tell where in a text its tokens stand, and their texts do not add up to it; "
                "use its fast version, AutoTokenizer.from_pretrained(..., use_fast=True)"
            )
        return ids, list(pairwise(accumulate(map(len, texts), initial=0)))

    return spell
