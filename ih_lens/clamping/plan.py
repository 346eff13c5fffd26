"""A plan: clamps in their order, as data that is checked, printed, written down and turned into hooks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

from ih_lens.clamping._base import Clamp, Place
from ih_lens.clamping.clamps import CLAMPS
from ih_lens.clamping.schedule import ALWAYS, During
from ih_lens.errors import InputError
from ih_lens.validate import one_of

MOMENTUM = ("keep", "zero", "hold")


@dataclass(frozen=True)
class Plan:
    """Clamps that hold together, each at its places, in this order.

    Attributes:
        clamps: the clamps; where two act on one activation the later one gets what the earlier one made.
        momentum: of the weights that a clamp cuts off, in training: "keep" lets the optimiser's moments and weight
            decay move them on; "zero" sets the moments to zero when the clamp begins to hold and when it is let go;
            "hold" keeps the weights as they are in between.

    Examples:
        >>> print(Plan([PreviousToken("L0H3"), ZeroHead(["L1H1", "L1H2"])]))
        PreviousToken(heads=['L0H3'])
        ZeroHead(heads=['L1H1', 'L1H2'])
    """

    clamps: tuple[Clamp, ...] = ()
    momentum: str = "keep"

    def __init__(self, clamps: "Plan | Clamp | Sequence[Clamp]" = (), momentum: str | None = None) -> None:
        if isinstance(clamps, str) or not isinstance(clamps, Plan | Clamp | Sequence):
            raise InputError(f"clamps: expected clamps such as PreviousToken('L0H3'), got {clamps!r}")
        given = clamps.clamps if isinstance(clamps, Plan) else (clamps,) if isinstance(clamps, Clamp) else tuple(clamps)
        for entry in given:
            if not isinstance(entry, Clamp):
                raise InputError(f"clamps: expected clamps such as PreviousToken('L0H3'), got {entry!r}")
        kept = clamps.momentum if isinstance(clamps, Plan) else MOMENTUM[0]
        object.__setattr__(self, "clamps", given)
        object.__setattr__(self, "momentum", one_of("momentum", momentum or kept, MOMENTUM))

    def __len__(self) -> int:
        return len(self.clamps)

    def __iter__(self) -> Iterator[Clamp]:
        return iter(self.clamps)

    def __str__(self) -> str:
        return "\n".join(str(entry) for entry in self.clamps) or "no clamps"

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return {"momentum": self.momentum, "clamps": [entry.to_json() for entry in self.clamps]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_json`.

        Raises:
            InputError: if it is no plan.
        """
        entries = record.get("clamps") if isinstance(record, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise InputError(f"plan: expected a list of clamps, got {entries!r}")
        names = [one_of("clamp", str(entry.get("clamp")), list(CLAMPS)) for entry in entries]
        return cls(
            [CLAMPS[name].from_json(entry) for name, entry in zip(names, entries, strict=True)],
            str(record.get("momentum", MOMENTUM[0])),
        )

    def check(self, cfg: Any) -> None:
        """Refuse clamps that the model has no place for, and clamps of which one would undo the other.

        Raises:
            InputError: naming heads or layers that do not exist, or two clamps in conflict.
            CapabilityError: if the model has no such place.
        """
        placed = [(entry, place) for entry in self.clamps for place in entry.places(cfg)]
        for (first, here), (second, there) in combinations(placed, 2):
            if first is not second and second.replaces and _meet(first, here, second, there):
                raise InputError(
                    f"clamps in conflict at {here.hook}: what {first} makes, {second} replaces at the same time; "
                    "give them other heads, rows or steps, or leave one out"
                )


Clamps: TypeAlias = Plan | Clamp | Sequence[Clamp]
"""What stands for a plan in every function that takes one."""


def _meet(first: Clamp, here: Place, second: Clamp, there: Place) -> bool:
    """Whether a second clamp acts on the same numbers as a first one, wholly and at the same steps."""
    if here.hook != there.hook or second.strength < 1 or second.gradient == "stop":
        return False
    if here.heads and there.heads and not set(here.heads) & set(there.heads):
        return False
    rows = {getattr(first, "rows", "all"), getattr(second, "rows", "all")}
    return (len(rows) == 1 or "all" in rows) and first.during.overlaps(second.during)


def covers(outer: Clamp, inner: Clamp) -> bool:
    """Whether one clamp holds in full whenever another holds."""
    if outer.during == ALWAYS or outer.during == inner.during:
        return True
    first, second = outer.during, inner.during
    if not isinstance(first, During) or not isinstance(second, During) or first.ramp:
        return False
    return first.start <= second.start and (
        first.stop is None or (second.stop is not None and second.stop <= first.stop)
    )
