"""When snapshots are taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ih_lens.errors import InputError
from ih_lens.validate import at_least, one_of

Kind: TypeAlias = Literal["every", "powers_of_two", "at_steps"]
_MOST_SNAPSHOTS = 1_000_000
"""Each is a folder with weights; more come from a slip in the numbers."""
_KINDS = ("every", "powers_of_two", "at_steps")


@dataclass(frozen=True)
class SnapshotSchedule:
    """The steps after which a snapshot is taken; see `every`, `powers_of_two` and `at_steps`, which make one."""

    kind: Kind
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        one_of("snapshots", self.kind, _KINDS)
        expected = {"every": 1, "powers_of_two": 2}.get(self.kind)
        if expected is not None and len(self.values) != expected:
            raise InputError(
                f"snapshots, {self.kind}: expected {'one number' if expected == 1 else 'two'}, got {self.values}"
            )
        for value in self.values:
            at_least(f"snapshots, {self.kind}", value, 1 if self.kind == "every" else 0)

    def steps(self, n_steps: int) -> list[int]:
        """The steps for a training of `n_steps`, ascending; 0 and the last one are always among them.

        Examples:
            >>> every(40).steps(100)
            [0, 40, 80, 100]
        """
        if self.kind == "every" and n_steps // self.values[0] > _MOST_SNAPSHOTS:
            raise InputError(
                f"snapshots, every {self.values[0]}: {n_steps // self.values[0]:,} snapshots in {n_steps:,} steps are "
                f"more than {_MOST_SNAPSHOTS:,}; take them more rarely, or train for fewer steps"
            )
        if self.kind == "every":
            chosen = range(0, n_steps, self.values[0])
        elif self.kind == "powers_of_two":
            chosen = [2**exponent for exponent in range(self.values[0], min(self.values[1], n_steps.bit_length()) + 1)]
        else:
            chosen = self.values
        return sorted({0, n_steps, *(step for step in chosen if step <= n_steps)})

    @property
    def exponential(self) -> bool:
        """Whether the steps grow exponentially, so that a logarithmic axis suits them."""
        return self.kind == "powers_of_two"

    def to_json(self) -> dict[str, Any]:
        """Kind and values."""
        return {"kind": self.kind, "values": list(self.values)}

    @classmethod
    def from_json(cls, record: Any) -> "SnapshotSchedule":
        """What `to_json` wrote."""
        return cls(record["kind"], tuple(record["values"]))


def every(n: int) -> SnapshotSchedule:
    """A snapshot every `n` steps.

    Examples:
        >>> every(50).steps(120)
        [0, 50, 100, 120]
    """
    return SnapshotSchedule("every", (at_least("every", n, 1),))


def powers_of_two(first: int, last: int) -> SnapshotSchedule:
    """Snapshots at 2**first, 2**(first + 1), ..., 2**last steps, as the paper's full-scale models have them.

    Examples:
        >>> powers_of_two(5, 8).steps(300)
        [0, 32, 64, 128, 256, 300]
    """
    at_least("powers_of_two, first exponent", first, 0)
    at_least("powers_of_two, last exponent", last, first)
    return SnapshotSchedule("powers_of_two", (first, last))


def at_steps(steps: Sequence[int]) -> SnapshotSchedule:
    """Snapshots at the steps of a list.

    Raises:
        InputError: if a step is negative or the list is empty.

    Examples:
        >>> at_steps([10, 500]).steps(1000)
        [0, 10, 500, 1000]
    """
    if not steps:
        raise InputError("at_steps: expected at least one step, got an empty list")
    return SnapshotSchedule("at_steps", tuple(sorted(set(steps))))
