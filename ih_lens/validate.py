"""Every check of arguments, in one place: each returns the checked value or raises with what to do."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ih_lens.errors import InputError, NumericsError
from ih_lens.types import HeadGroup, HeadIndex, HeadSpelling, ModelLike

_HUGE = 1e300
"""Larger integers are no floats."""


def at_least(name: str, value: int, minimum: int) -> int:
    """An integer not below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InputError(f"{name}: expected an integer of at least {minimum}, got {value!r}")
    return value


def number(name: str, value: Any, *, whole: bool = False) -> int | float:
    """A finite number, and no truth value; a whole one if asked."""
    known = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not known or not -_HUGE < float(min(max(value, -_HUGE), _HUGE)) < _HUGE:
        raise InputError(f"{name}: expected {'a whole' if whole else 'a finite'} number, got {value!r}")
    return cast(int | float, value)


def proportion(name: str, value: Any) -> float:
    """A number from 0 to 1, both included."""
    if not 0 <= number(name, value) <= 1:
        raise InputError(f"{name}: expected a number from 0 to 1, got {value!r}")
    return float(value)


def listed(name: str, value: Any, of: str) -> tuple[Any, ...]:
    """The members of a list, tuple, range or the like, and no text."""
    if (
        isinstance(value, str | bytes)
        or not isinstance(value, Iterable)
        or (isinstance(value, Tensor) and not value.ndim)
    ):
        raise InputError(f"{name}: expected {of}, got {value!r}")
    return tuple(cast(Iterable[Any], value))


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """One of the listed words."""
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
    return value


def seed_of(name: str, value: int) -> int:
    """A seed that every generator of random numbers takes."""
    if at_least(name, value, 0) >= 2**64:
        raise InputError(f"{name}: expected a seed below 2**64, got {value!r}")
    return value


def device_of(name: str, value: str) -> str:
    """A device of PyTorch by its name, whether or not this machine has it."""
    try:
        kind = torch.device(value).type
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name}: expected a device such as 'cpu', 'cuda' or 'cuda:1', got {value!r}") from error
    if kind == "meta":
        raise InputError(f"{name}: 'meta' holds no numbers; give 'cpu', or 'cuda' on a machine that has one")
    return value


def path_of(name: str, given: str | Path) -> Path:
    """The path that a text stands for, with a home folder for `~`, whether or not anything lies there."""
    if given == "":
        raise InputError(f"{name}: expected a path, got an empty text; write . for the working directory")
    try:
        path = Path(given).expanduser()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Path(given).expanduser()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, a user who does not exist
        raise InputError(
            f"{name}: expected a path, got {str(given)[:200]!r}, which is none on this machine "
            f"({getattr(error, 'strerror', None) or error}); check its spelling"
        ) from error
    return path


def token_batch(tokens: Tensor, *, d_vocab: int | None = None, n_ctx: int | None = None, min_length: int = 1) -> Tensor:
    """Token ids as an integer matrix [example, pos] inside the vocabulary and the context."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point() or tokens.is_complex():
        came = f"{tuple(tokens.shape)} {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(
            f"tokens: expected an integer tensor [example, pos], got {came}; "
            "add a leading dimension to a single example, and pass ids, not text"
        )
    n_examples, length = tokens.shape
    if n_examples < 1 or length < min_length:
        raise InputError(
            f"tokens: expected at least 1 example of at least {min_length} tokens, got {n_examples} x {length}"
        )
    if n_ctx is not None and length > n_ctx:
        raise InputError(f"tokens: examples of {length} tokens do not fit the model's context of {n_ctx}; cut them")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (d_vocab is not None and high >= d_vocab):
        worst = low if low < 0 else high
        raise InputError(
            f"tokens: id {worst} lies outside the vocabulary of {d_vocab}; "
            "the tokens were made for another tokenizer or model"
        )
    return tokens


def start_column(tokens: Tensor) -> None:
    """A first column that can be a start token: one id for all examples, occurring nowhere else."""
    if tokens.shape[1] < 2 or bool((tokens[:, 0] != tokens[0, 0]).any()) or bool((tokens[:, 1:] == tokens[0, 0]).any()):
        raise InputError(
            "has_bos=True: expected one id in the first column of all examples that occurs nowhere else, "
            "followed by at least one token; leave has_bos out if the examples have no start token"
        )


def layer_indices(layers: Sequence[int], n_layers: int) -> list[int]:
    """Layers that exist, each once, in the given order."""
    chosen = list(layers)
    known = [isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer < n_layers for layer in chosen]
    if not chosen or not all(known) or len(set(chosen)) != len(chosen):
        raise InputError(f"layers: expected different numbers from 0 to {n_layers - 1}, at least one; got {chosen}")
    return chosen


def head_index(head: HeadSpelling, n_layers: int, n_heads: int) -> HeadIndex:
    """A head that exists in a model of this size."""
    parsed = HeadIndex.parse(head)
    if parsed.layer >= n_layers or parsed.head >= n_heads:
        raise InputError(
            f"head {parsed} does not exist: the model has layers 0..{n_layers - 1} and heads 0..{n_heads - 1}"
        )
    return parsed


def is_single_head(entry: HeadGroup) -> bool:
    """Whether an entry of `heads` spells one head; all others are groups, be it of one head."""
    return isinstance(entry, str) or (len(entry) == 2 and all(isinstance(part, int) for part in entry))


def head_groups(heads: Sequence[HeadGroup], n_layers: int, n_heads: int) -> list[tuple[HeadIndex, ...]]:
    """Heads or groups of heads, each as a tuple without repeats."""
    if isinstance(heads, str):
        raise InputError(f"heads: expected a list of heads or of groups, got the text {heads!r}; write [{heads!r}]")
    groups: list[tuple[HeadIndex, ...]] = []
    for entry in heads:
        members: Sequence[HeadSpelling] = [entry] if is_single_head(entry) else entry  # pyright: ignore[reportAssignmentType]
        group = tuple(head_index(member, n_layers, n_heads) for member in members)
        if not group or len(set(group)) != len(group):
            raise InputError(f"heads: a group must name at least one head and none twice, got {entry!r}")
        groups.append(group)
    if not groups:
        raise InputError("heads: expected at least one head or group, got none")
    return groups


def context_indices(indices: Sequence[int], n_pos: int) -> list[int]:
    """Context indices of predicted tokens, 1..n_pos-1: nothing predicts the token at index 0."""
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 1 <= index < n_pos:
            raise InputError(
                f"context index {index!r}: expected 1..{n_pos - 1} for examples of {n_pos} tokens (index 0 has no "
                "loss). For short contexts pass early= and late= that lie inside"
            )
    return list(indices)


def finite_weights(model: nn.Module | ModelLike) -> None:
    """Refuse a model with NaN or infinite weights, naming the first such parameter."""
    for name, parameter in cast(nn.Module, model).named_parameters():
        if parameter.is_floating_point() and not _is_finite(parameter.detach()):
            raise NumericsError(
                f"the weights {name} hold NaN or infinity, so no measurement means anything; "
                "load an earlier snapshot or train with a smaller learning rate"
            )


def _is_finite(values: Tensor) -> bool:
    """Whether no entry is NaN or infinite: neither hides from the sum; where the sum overflows, extremes decide."""
    return bool(values.sum().isfinite()) or all(bool(extreme.isfinite()) for extreme in values.aminmax())


def chosen_context_indices(n_pos: int, *, early: int | None, late: int | None) -> dict[str, int]:
    """The two indices of the in-context learning score by name: as given, and by default where one is None.

    Raises:
        InputError: if one is not given, and the context is too short for a default.

    Examples:
        >>> chosen_context_indices(512, early=20, late=None)
        {'early': 20, 'late': 500}
    """
    if early is not None and late is not None:
        return {"early": early, "late": late}
    default = default_context_indices(n_pos)
    return {"early": default[0] if early is None else early, "late": default[1] if late is None else late}


def default_context_indices(n_pos: int) -> tuple[int, int]:
    """The two indices (early, late) of the in-context learning score for examples of `n_pos` tokens.

    50 and 500 as in the paper where the context allows it, else the same fractions of its 512 tokens, rounded.

    Raises:
        InputError: if the context is too short to hold two different indices.

    Examples:
        >>> default_context_indices(512), default_context_indices(48)
        ((50, 500), (5, 47))
    """
    if n_pos > 500:
        return 50, 500
    early, late = max(1, round(50 * n_pos / 512)), min(n_pos - 1, round(500 * n_pos / 512))
    if early >= late:
        raise InputError(
            f"examples of {n_pos} tokens are too short for an early and a late context index; use longer ones"
        )
    return early, late
