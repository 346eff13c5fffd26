"""Clamps of attention patterns: which heads, which queries."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.clamping._base import Clamp, Heads, Place, Rows, chosen_rows, given_rows, places_of_heads, several_heads


@dataclass(frozen=True)
class PatternClamp(Clamp):
    """A clamp of the attention patterns of some heads.

    Attributes:
        heads: one head or several, spelled as everywhere: "L0H3", "0.3" or (0, 3).
        rows: the queries that are clamped: "all", "even", "odd", "last", or positions.
    """

    heads: Heads
    rows: Rows = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "heads", several_heads(self.heads))
        object.__setattr__(self, "rows", given_rows("rows", self.rows))
        chosen_rows(self.rows if isinstance(self.rows, str) else "all", 1)

    def places(self, cfg: Any) -> list[Place]:
        """The patterns of these heads."""
        return places_of_heads(several_heads(self.heads), cfg, "hook_pattern", axis=1)

    def cuts_off(self) -> bool:
        """Only if no query keeps its pattern."""
        return self.rows == "all" and super().cuts_off()

    def queries(self, n_pos: int, device: torch.device) -> Bool[Tensor, "query_pos 1"]:
        """The rows as a mask over queries."""
        return chosen_rows(self.rows, n_pos).to(device)[:, None]


def same_token(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch query_pos key_pos"]:
    """Which earlier tokens are the query's own."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1)


def shift_keys(marks: Bool[Tensor, "batch query_pos key_pos"], by: int) -> Bool[Tensor, "batch query_pos key_pos"]:
    """The same marks `by` keys later (earlier if negative); what would leave the past of its query is dropped."""
    if abs(by) >= marks.shape[-1]:
        return torch.zeros_like(marks)
    shifted = torch.roll(marks, by, dims=-1)
    if by > 0:
        shifted[..., :by] = False
    elif by < 0:
        shifted[..., by:] = False
    return shifted.tril()


def shares(marks: Float[Tensor, "batch query_pos key_pos"]) -> Float[Tensor, "batch query_pos key_pos"]:
    """Marks as attention: every row that has any sums to one."""
    return marks / marks.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(marks.dtype).tiny)
