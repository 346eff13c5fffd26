"""Attention of the query to the label that belongs to it, in sequences of exemplars and labels."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.clamping._base import Place, Target
from ih_lens.clamping.clamps._patterns import PatternClamp, same_token, shares, shift_keys
from ih_lens.clamping.state import ClampState
from ih_lens.errors import InputError
from ih_lens.validate import listed, number, proportion


@dataclass(frozen=True)
class LabelMatch(PatternClamp):
    """The query attends with `correct` to the labels of its own class, with the rest to the other labels.

    For sequences exemplar, label, exemplar, label, ..., query. (Singh et al. 2024: `correct` = 1 is the perfect match,
    and 2 * correct - 1 what they call its induction strength.)

    Attributes:
        rows: the query, which is the last token by default.
        correct: share of the attention on labels that follow an exemplar of the query's class, 0 to 1.
        classes: class of every token id; by default only equal tokens are of one class.

    Examples:
        >>> LabelMatch("L1H3", correct=0.9)
    """

    rows: str | tuple[int, ...] = "last"
    correct: float = 1.0
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        proportion("correct", self.correct)
        if self.classes is not None:
            classes = listed("classes", self.classes, "a list with the class of every token id")
            object.__setattr__(self, "classes", tuple(number("classes", given, whole=True) for given in classes))

    def cuts_off(self) -> bool:
        """Never: queries without labels keep their pattern."""
        return False

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """Attention to the labels, on queries that have labels of their own class and, if needed, others."""
        classes = self._classes(state.tokens_of(len(natural), natural.shape[-1]).to(natural.device))
        n_pos = classes.shape[1]
        labels = (torch.arange(n_pos, device=classes.device) % 2 == 1).expand(len(classes), n_pos, n_pos).tril()
        own = shift_keys(same_token(classes), 1) & labels
        other = labels & ~own
        held = self.correct * shares(own.to(natural.dtype)) + (1 - self.correct) * shares(other.to(natural.dtype))
        complete = (own.any(-1) | (self.correct == 0)) & (other.any(-1) | (self.correct == 1))
        rows = complete[:, None, :, None] & self.queries(n_pos, natural.device)
        return Target(held[:, None].expand_as(natural), rows)

    def _classes(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        if self.classes is None:
            return tokens
        if int(tokens.max()) >= len(self.classes):
            raise InputError(
                f"classes: {len(self.classes)} were given, and the tokens go up to {int(tokens.max())}; give one per id"
            )
        return torch.tensor(self.classes, device=tokens.device)[tokens]
