"""Vocabulary shared by all of the library: head indices and what a model must offer to be measured."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ih_lens.errors import InputError

_HEAD = re.compile(r"[Ll]?(\d{1,9})(?:[Hh.])(\d{1,9})")


class HeadIndex(NamedTuple):
    """One attention head, zero-based: `HeadIndex(1, 4)` prints as `L1H4`."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def parse(cls, spelling: "HeadSpelling") -> "HeadIndex":
        """Read `"L1H4"`, `"1.4"` or `(1, 4)`.

        Raises:
            InputError: for any other spelling.

        Examples:
            >>> HeadIndex.parse("1.4")
            L1H4
        """
        if isinstance(spelling, str):
            match = _HEAD.fullmatch(spelling.strip())
            if match:
                return cls(int(match[1]), int(match[2]))
        elif (
            isinstance(spelling, Sequence)
            and len(spelling) == 2
            and all(isinstance(part, int) and part >= 0 for part in spelling)
        ):
            return cls(*spelling)
        raise InputError(
            f"expected a head as 'L1H4', '1.4' or (1, 4), zero-based; got {spelling!r}. Write layer first, then head."
        )


HeadSpelling: TypeAlias = str | tuple[int, int] | HeadIndex
HeadGroup: TypeAlias = HeadSpelling | Sequence[HeadSpelling]
Hook: TypeAlias = tuple[str, Callable[..., Tensor | None]]


@runtime_checkable
class ModelLike(Protocol):
    """What measuring code asks of a model: a `HookedTransformer`, or a bridge whose hooks behave alike."""

    cfg: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        ...

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model with temporary hooks."""
        ...

    def run_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model and return its activations beside its output."""
        ...
