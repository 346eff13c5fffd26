"""Attention that is not allowed: taken out of the pattern, which is then scaled to one again."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ih_lens.clamping._base import Place, Target
from ih_lens.clamping.clamps._patterns import PatternClamp
from ih_lens.clamping.clamps.induction_target import induction_marks
from ih_lens.clamping.state import ClampState
from ih_lens.errors import InputError
from ih_lens.validate import listed

KEYS = ("previous", "self", "start", "induction")


@dataclass(frozen=True)
class _KeyClamp(PatternClamp):
    """Attention to certain keys.

    Attributes:
        keys: "previous" (the token before), "self", "start" (the first token), "induction" (what followed earlier
            occurrences of the token), or distances back from the query, such as (1, 2).
    """

    replaces = False

    keys: str | tuple[int, ...] = "previous"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.keys, str):
            if self.keys not in KEYS:
                raise InputError(f"keys: expected one of {', '.join(KEYS)} or distances, got {self.keys!r}")
            return
        distances = listed("keys", self.keys, f"one of {', '.join(KEYS)}, or a list of distances")
        if not distances or not all(type(back) is int and 0 <= back < 2**63 for back in distances):
            raise InputError(f"keys: expected distances back from the query, from 0, got {self.keys!r}")
        object.__setattr__(self, "keys", distances)

    def _marked(self, natural: Tensor, state: ClampState) -> Bool[Tensor, "batch 1 query_pos key_pos"]:
        n_pos = natural.shape[-1]
        if self.keys == "induction":
            return induction_marks(state.tokens_of(len(natural), natural.shape[-1]).to(natural.device))[:, None]
        queries = torch.arange(n_pos, device=natural.device)[:, None]
        back = queries - torch.arange(n_pos, device=natural.device)
        if self.keys == "start":
            marked = back == queries
        else:
            distances = {"previous": (1,), "self": (0,)}.get(str(self.keys), self.keys)
            marked = torch.isin(back, torch.tensor(distances, device=back.device))
        return marked.expand(len(natural), 1, n_pos, n_pos)

    def _kept(self, natural: Tensor, kept: Bool[Tensor, "batch 1 query_pos key_pos"]) -> Target:
        """The pattern on these keys alone, exactly as if the scores of all others were minus infinity."""
        remaining = natural * kept
        mass = remaining.sum(dim=-1, keepdim=True)
        some = mass > 0
        held = remaining / torch.where(some, mass, 1)
        return Target(held, some & self.queries(natural.shape[-1], natural.device))


@dataclass(frozen=True)
class Forbid(_KeyClamp):
    """No attention to certain keys; a query that has no others keeps its pattern.

    Examples:
        >>> Forbid(["L0H0", "L0H1"], keys="previous")
    """

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """What is left without these keys."""
        return self._kept(natural, ~self._marked(natural, state))


@dataclass(frozen=True)
class Allow(_KeyClamp):
    """No attention but to certain keys; a query that has none of them keeps its pattern.

    Examples:
        >>> Allow("L0H0", keys=(1, 2))
    """

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """These keys alone."""
        return self._kept(natural, self._marked(natural, state))
