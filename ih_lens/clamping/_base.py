"""What every clamp is: data that names places in a model, and gives the values to hold there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from ih_lens.clamping.schedule import ALWAYS, During, Schedule, When, schedule_from_json, schedule_to_json
from ih_lens.clamping.state import ClampState, Reference
from ih_lens.errors import IHLensError, InputError
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import head_index, listed, number, one_of, proportion

GRADIENTS = ("block", "straight_through", "stop")
Heads = HeadSpelling | Sequence[HeadSpelling]
Rows = str | Sequence[int]


@dataclass(frozen=True)
class Place:
    """Where a clamp acts: one hook, and the heads there.

    Attributes:
        hook: as TransformerLens names it.
        axis: of the heads in the activation; None where it has none.
        heads: indices along that axis.
        layer: of the hook; None outside layers.
    """

    hook: str
    axis: int | None = None
    heads: tuple[int, ...] = ()
    layer: int | None = None

    def select(self, value: Tensor) -> Tensor:
        """The part of an activation that is clamped."""
        return value if self.axis is None else value.index_select(self.axis, self._index(value))

    def put(self, value: Tensor, part: Tensor) -> Tensor:
        """A new activation with that part replaced."""
        return part if self.axis is None else value.index_copy(self.axis, self._index(value), part)

    def _index(self, value: Tensor) -> Tensor:
        return torch.tensor(self.heads, device=value.device)


@dataclass(frozen=True)
class Target:
    """Values to hold, and on which rows: the others stay as they are."""

    values: Tensor
    rows: Bool[Tensor, "..."] | None = None


@dataclass(frozen=True, kw_only=True)
class Clamp(ABC):
    """Values that a part of a model is held at; a frozen dataclass of plain data.

    Attributes:
        strength: share of the held value, 0 to 1; the rest is the natural value.
        gradient: "block": the held value is a constant, so that what made the natural one learns nothing (or its share
            of 1 - strength); "straight_through": it learns as if its value had not been replaced; "stop": the value
            stays natural, and only learning stops.
        during: when it holds.
    """

    replaces: ClassVar[bool] = True
    """Whether held values do not depend on the natural ones."""
    split_inputs: ClassVar[bool] = False
    """Whether queries, keys and values must be given inputs of their own (TransformerLens's use_split_qkv_input)."""

    strength: float = 1.0
    gradient: str = "block"
    during: Schedule = ALWAYS

    def __post_init__(self) -> None:
        for entry in fields(self):
            if type(entry.default) in (int, float):
                number(entry.name, getattr(self, entry.name), whole=isinstance(entry.default, int))
            elif type(entry.default) is bool and not isinstance(getattr(self, entry.name), bool):
                raise InputError(f"{entry.name}: expected True or False, got {getattr(self, entry.name)!r}")
        one_of("gradient", self.gradient, GRADIENTS)
        if not isinstance(self.during, During | When):
            raise InputError(f"during: expected During(start, stop) or When(metric, ...), got {self.during!r}")
        proportion("strength", self.strength)

    def __str__(self) -> str:
        """The clamp as it is written, without what is as usual."""
        given = [entry for entry in fields(self) if getattr(self, entry.name) != entry.default]
        shown = (f"{entry.name}={_short(getattr(self, entry.name))}" for entry in given)
        return f"{type(self).__name__}({', '.join(shown)})"

    @abstractmethod
    def places(self, cfg: Any) -> list[Place]:
        """Where it acts in a model of this configuration.

        Raises:
            InputError: if it names heads or layers that the model lacks.
            CapabilityError: if the model has no such place.
        """

    @abstractmethod
    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:
        """The values to hold at one place, of the shape of `natural`: the heads of that place only."""

    def references(self, cfg: Any) -> list[Reference]:  # noqa: ARG002 only some clamps have any
        """Other passes that it needs; none by default."""
        return []

    def observed(self, cfg: Any) -> list[str]:  # noqa: ARG002 only some clamps have any
        """Activations of the same pass that it needs, by hook; none by default."""
        return []

    def cuts_off(self) -> bool:
        """Whether what made the natural values gets no gradient at all while it holds in full."""
        return self.gradient == "stop" or (self.gradient == "block" and self.replaces and self.strength == 1)

    def hold(self, natural: Tensor, place: Place, state: ClampState, strength: float) -> Tensor:
        """The natural values mixed with the held ones, with the gradients asked for."""
        if self.gradient == "stop":
            target = self.target(natural.detach(), place, state)
            held = natural.detach()
        else:
            target = self.target(natural, place, state)
            held = natural.lerp(target.values.to(natural), strength)
            if self.gradient == "straight_through":
                held = natural + (held - natural).detach()
        return held if target.rows is None else torch.where(target.rows, held, natural)

    def to_json(self) -> dict[str, Any]:
        """The clamp as JSON takes it."""
        return {
            "clamp": type(self).__name__,
            **{entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Clamp":
        """The inverse of `to_json`, on the right class.

        Raises:
            InputError: if it is none of this class.
        """
        try:
            values: dict[str, Any] = {name: _tuples(value) for name, value in record.items() if name != "clamp"}
            if "during" in values:
                values["during"] = schedule_from_json(values["during"])
            return cls(**values)
        except IHLensError:
            raise
        except (TypeError, ValueError, AttributeError, RecursionError) as error:  # a value of another type
            raise InputError(f"clamp {cls.__name__}: {error}; write it as to_json does") from error


def several_heads(heads: Heads) -> tuple[HeadIndex, ...]:
    """Heads as they were given, one or several, each once.

    Raises:
        InputError: if there is none, or one twice.
    """
    given = (heads,) if isinstance(heads, str) else listed("heads", heads, "heads, such as 'L1H0' or ['L1H0', 'L1H1']")
    single = len(given) == 2 and all(isinstance(part, int) for part in given)
    parsed = tuple(map(HeadIndex.parse, [given] if single else given))  # pyright: ignore[reportArgumentType]
    if not parsed or len(set(parsed)) < len(parsed):
        raise InputError(f"heads: expected at least one head and none twice, got {heads!r}")
    return parsed


def given_rows(name: str, rows: Rows) -> Rows:
    """Positions, or a word for some, as a clamp keeps them."""
    if isinstance(rows, str):
        return rows
    positions = listed(name, rows, "'all', 'even', 'odd', 'last' or a list of positions")
    return tuple(int(number(name, position, whole=True)) for position in positions)


def places_of_heads(heads: Sequence[HeadIndex], cfg: Any, hook: str, axis: int) -> list[Place]:
    """One place per layer for some heads, at an attention hook such as "hook_pattern"."""
    by_layer: dict[int, list[int]] = {}
    for head in heads:
        layer, index = head_index(head, cfg.n_layers, cfg.n_heads)
        by_layer.setdefault(layer, []).append(index)
    return [
        Place(f"blocks.{layer}.attn.{hook}", axis, tuple(indices), layer) for layer, indices in sorted(by_layer.items())
    ]


def chosen_rows(rows: Rows, n_pos: int) -> Bool[Tensor, "pos"]:
    """Positions that `rows` stands for: "all", "even", "odd", "last", or numbers, negative ones from the end.

    Raises:
        InputError: for anything else.
    """
    mask = torch.zeros(n_pos, dtype=torch.bool, device="cpu")
    slices = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2), "last": slice(-1, None)}
    if isinstance(rows, str):
        mask[slices[one_of("rows", rows, list(slices))]] = True
        return mask
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, int) or not -n_pos <= row < n_pos:
            raise InputError(f"rows: expected positions of an example of {n_pos} tokens, got {row!r}")
        mask[row] = True
    return mask


def _short(value: Any) -> str:
    """A field's value as a message shows it."""
    if isinstance(value, During | When):
        return repr(value)
    plain = _plain(value)
    if isinstance(plain, list) and plain and all(isinstance(part, list) for part in plain):
        return f"<{len(plain)} rows>"
    return repr(plain) if isinstance(plain, str | float | int | list) else f"<{type(value).__name__}>"


def _plain(value: Any) -> Any:
    """A field's value as JSON takes it."""
    if isinstance(value, HeadIndex):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return schedule_to_json(value) if isinstance(value, During | When) else value


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
