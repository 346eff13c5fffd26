"""Random tokens, once or repeated: the input on which heads are scored (paper, "Head activation evaluators")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from ih_lens.data.common_tokens import UNKNOWN, Commonness, commonness_by_counts, commonness_of
from ih_lens.data.start_tokens import start_token
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.errors import InputError
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

SHARE = 0.04
"""The share of the vocabulary that is left out as too common, and as too rare."""


def repeated_random_tokens(
    model: ModelLike,
    *,
    length: int = 25,
    repeats: int = 4,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
    counts: Sequence[int] | Tensor | None = None,
    share: float = SHARE,
) -> Int[Tensor, "example pos"]:
    """Random tokens repeated several times after a start token: what prefix matching is measured on.

    Args:
        model: gives vocabulary, context length and tokenizer; it is not run.
        length: distinct random tokens per example.
        repeats: how often they are written one after the other.
        n_examples: examples, each with its own draw.
        seed: the same seed gives the same tokens.
        bos: start token: "auto" for the tokenizer's (none without a tokenizer), an id, or None for none.
        counts: how often each id occurs in the training text [d_vocab]; without them the tokenizer's merge rank
            tells how common a token is (ids of a byte-level BPE stand in that order).
        share: the share of the tokens that is left out at either end, the most and the least common.

    Returns:
        Ids [example, pos]; pos counts the start token, if there is one, and `length` * `repeats` tokens.

    Raises:
        InputError: if an example does not fit the context, or the vocabulary is smaller than `length`.

    Examples:
        >>> repeated_random_tokens(model, length=25, repeats=4).shape  # a start token and 4 x 25 tokens
        torch.Size([10, 101])
    """
    at_least("repeats", repeats, 1)
    once = random_tokens(model, length=length, n_examples=n_examples, seed=seed, bos=bos, counts=counts, share=share)
    n_start = once.shape[1] - length
    tokens = torch.cat([once[:, :n_start], once[:, n_start:].repeat(1, repeats)], dim=1)
    return _fitting(tokens, model)


def random_tokens(
    model: ModelLike,
    *,
    length: int = 25,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = None,
    counts: Sequence[int] | Tensor | None = None,
    share: float = SHARE,
) -> Int[Tensor, "example pos"]:
    """Distinct random tokens: what copying is measured on.

    They are drawn without replacement from the vocabulary less the start token, the tokenizer's special tokens,
    the rows of the embedding that the tokenizer cannot produce, and the most and the least common tokens. With
    neither tokenizer nor `counts` nothing is known of how common a token is, and only the start token is left out.
    Ids come out; nothing is decoded. Arguments, result and errors are those of `repeated_random_tokens`.

    Examples:
        >>> random_tokens(model, length=25).shape  # without a start token, by default
        torch.Size([10, 25])
    """
    at_least("length", length, 1)
    at_least("n_examples", n_examples, 1)
    start = start_token(model, bos)
    allowed = token_pool(model, bos, counts=counts, share=share).ids
    if length > len(allowed):
        raise InputError(
            f"length: {length} distinct random tokens were asked for and {len(allowed)} are left of a vocabulary of "
            f"{model.cfg.d_vocab} without special, unreachable, most and least common ones; ask for fewer"
        )
    tokens = torch.from_numpy(allowed[_distinct_numbers(len(allowed), n_examples, length, seed)])
    if start is not None:
        tokens = torch.nn.functional.pad(tokens, (1, 0), value=start)
    return _fitting(tokens, model)


def n_random_tokens(model: ModelLike, bos: int | str | None = None) -> int:
    """How many distinct tokens `random_tokens` can draw for this model."""
    return len(token_pool(model, bos).ids)


@dataclass(frozen=True)
class TokenPool:
    """The ids that random tokens are drawn from, and what was left out of the vocabulary.

    Attributes:
        ids: in ascending order.
        commonness: what the most and the least common tokens were known from; see `Commonness.known_from`.
        share: of the ordinary tokens, left out at either end; 0 where nothing is known.
        n_special: start, special and unreachable ids that were left out.
    """

    ids: NDArray[np.int64]
    commonness: str
    share: float
    n_special: int

    @property
    def description(self) -> dict[str, Any]:
        """For the attributes of results."""
        return {
            "commonness": self.commonness,
            "share_left_out": self.share,
            "n_tokens_drawn_from": len(self.ids),
            "n_special_or_unreachable": self.n_special,
        }


def token_pool(
    model: ModelLike,
    bos: int | str | None = None,
    *,
    counts: Sequence[int] | Tensor | None = None,
    share: float = SHARE,
) -> TokenPool:
    """What `random_tokens` draws from for this model.

    Raises:
        InputError: if `share`, `counts` or `bos` cannot be used.

    Examples:
        >>> token_pool(load_model("gpt2")).description
        {'commonness': 'merge rank', 'share_left_out': 0.04, 'n_tokens_drawn_from': 46236, ...}
    """
    if not 0 <= share < 0.5:
        raise InputError(f"share: expected the share left out at either end, from 0 to below 0.5, got {share!r}")
    d_vocab, tokenizer = model.cfg.d_vocab, getattr(model, "tokenizer", None)
    special = {start_token(model, bos)} | (set() if tokenizer is None else _special_ids(tokenizer))
    reachable: Iterable[int] = range(d_vocab) if tokenizer is None else tokenizer.get_vocab().values()
    ids = np.array(sorted({token for token in reachable if token < d_vocab} - special), dtype=np.int64)
    n_special = d_vocab - len(ids)
    commonness = _commonness(tokenizer, counts, d_vocab)
    if commonness is UNKNOWN:
        return TokenPool(ids, commonness.known_from, 0.0, n_special)
    ranked = _in_order(ids, commonness)
    n_left_out = int(share * len(ids))
    return TokenPool(
        np.sort(ranked[n_left_out : len(ids) - n_left_out]), commonness.known_from, float(share), n_special
    )


def _commonness(tokenizer: Any, counts: Sequence[int] | Tensor | None, d_vocab: int) -> Commonness:
    """Counts where they are given, else what the tokenizer tells."""
    if counts is not None:
        return commonness_by_counts(_checked_counts(counts, d_vocab))
    return UNKNOWN if tokenizer is None else commonness_of(tokenizer)


def _in_order(ids: NDArray[np.int64], commonness: Commonness) -> NDArray[np.int64]:
    """These ids, the most common first; those that were added to the tokenizer later come last."""
    unplaced = np.zeros(max(ids.max(initial=0), commonness.order.max(initial=0)) + 1, dtype=bool)
    unplaced[ids] = True
    ranked = commonness.order[unplaced[commonness.order]]
    unplaced[ranked] = False
    return np.concatenate([ranked, np.flatnonzero(unplaced)])


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids that stand for no text: the named special tokens and the added ones marked as special."""
    added = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    return added | set(tokenizer.all_special_ids)


def _checked_counts(counts: Sequence[int] | Tensor, d_vocab: int) -> NDArray[np.int64]:
    """Counts as one integer per id."""
    checked = torch.as_tensor(counts, device="cpu").numpy()
    if checked.shape != (d_vocab,):
        raise InputError(f"counts: expected one number per id of the vocabulary ({d_vocab}), got shape {checked.shape}")
    return checked.astype(np.int64)


def _distinct_numbers(n: int, n_examples: int, length: int, seed: int) -> NDArray[np.int64]:
    """In each row `length` different numbers of 0..n-1 in random order, by Floyd's method: no row of n is made."""
    draws = random_words(seed, Stream.RANDOM_TOKENS, 0, n_examples * 2 * length).reshape(n_examples, 2, length)
    chosen = np.full((n_examples, length), -1, dtype=np.int64)
    for column, last in enumerate(range(n - length, n)):
        candidate = (as_uniform(draws[:, 0, column]) * (last + 1)).astype(np.int64)
        taken = (chosen == candidate[:, None]).any(axis=1)
        chosen[:, column] = np.where(taken, last, candidate)
    # which numbers are chosen is uniform, but late columns hold the large ones more often
    return np.take_along_axis(chosen, draws[:, 1].argsort(axis=1, kind="stable"), axis=1)


def _fitting(tokens: Int[Tensor, "example pos"], model: ModelLike) -> Int[Tensor, "example pos"]:
    """The tokens, if the model's context can hold them."""
    if tokens.shape[1] > model.cfg.n_ctx:
        raise InputError(
            f"examples of {tokens.shape[1]} tokens do not fit the model's context of {model.cfg.n_ctx}; "
            "use a smaller length or fewer repeats"
        )
    return tokens
