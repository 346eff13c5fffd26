"""Perfect attention to what induction would attend to."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ih_lens.clamping._base import Place, Target
from ih_lens.clamping.clamps._patterns import PatternClamp, same_token, shares, shift_keys
from ih_lens.clamping.state import ClampState
from ih_lens.validate import at_least, one_of


@dataclass(frozen=True)
class InductionTarget(PatternClamp):
    """Every query attends to the tokens that followed earlier occurrences of its own token.

    (Singh et al. 2024, subcircuit B.)

    Attributes:
        ties: with several earlier occurrences: "uniform" over all, only the "latest", or the "earliest".
        offset: attend so many tokens after the induction target; 0 is induction.
        n_prefix: how many tokens before must match, the query's own included.
        otherwise: queries without a match keep their "natural" pattern, or attend to the "start".

    Examples:
        >>> InductionTarget("L1H0", ties="latest")
    """

    ties: str = "uniform"
    offset: int = 0
    n_prefix: int = 1
    otherwise: str = "natural"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("ties", self.ties, ["uniform", "latest", "earliest"])
        at_least("n_prefix", self.n_prefix, 1)
        one_of("otherwise", self.otherwise, ["natural", "start"])

    def cuts_off(self) -> bool:
        """Only if queries without a match are held too."""
        return self.otherwise == "start" and super().cuts_off()

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """Attention to the targets, and what is asked for where there is none."""
        tokens = state.tokens_of(len(natural), natural.shape[-1]).to(natural.device)
        marks = induction_marks(tokens, self.ties, self.offset, self.n_prefix)
        if self.otherwise == "start":
            marks[..., 0] |= ~marks.any(dim=-1)
        held = shares(marks.to(natural.dtype))[:, None].expand_as(natural)
        matched = marks.any(dim=-1)[:, None, :, None]
        return Target(held, matched & self.queries(natural.shape[-1], natural.device))


def induction_marks(
    tokens: Int[Tensor, "batch pos"], ties: str = "uniform", offset: int = 0, n_prefix: int = 1
) -> Bool[Tensor, "batch query_pos key_pos"]:
    """Keys that are induction targets of each query: the token after each earlier match, moved by `offset`."""
    same = same_token(tokens)
    match = same.clone()
    for back in range(1, n_prefix):
        earlier = torch.zeros_like(match)
        earlier[:, back:, back:] = same[:, :-back, :-back]
        match &= earlier
    marks = shift_keys(match, 1 + offset)
    if ties == "latest":
        return marks & (marks.flip(-1).cumsum(dim=-1).flip(-1) == 1)
    return marks & (marks.cumsum(dim=-1) == 1) if ties == "earliest" else marks
