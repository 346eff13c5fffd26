"""Conditions that give a language model parts of the induction circuit, while it learns the rest."""

from ih_lens.clamping._base import Clamp
from ih_lens.clamping.clamps.forbid import Forbid
from ih_lens.clamping.clamps.ideal_copying import IdealOV
from ih_lens.clamping.clamps.induction_target import InductionTarget
from ih_lens.clamping.clamps.previous_token import PreviousToken
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import head_index


def subcircuits(
    cfg: HookedTransformerConfig, *, head: HeadSpelling = "L1H0", previous: HeadSpelling = "L0H0", gain: float = 8.0
) -> dict[str, list[Clamp]]:
    """Clamps of the previous token (A), the match (B), the copy (C) and their pairs, and A forbidden.

    Args:
        cfg: of the model.
        head: the head that matches and copies.
        previous: the head of a layer before it that is clamped to the previous token.
        gain: length of what perfect copying writes; see `IdealOV`.

    Returns:
        Clamps by condition, "free" among them, for `train_conditions` and `perfected_losses`.

    Examples:
        >>> train_conditions(cfg, RestartCycle(), config, subcircuits(cfg), out="runs", seeds=(0, 1, 2))
    """
    layer, _ = head_index(head, cfg.n_layers, cfg.n_heads)
    first, _ = head_index(previous, cfg.n_layers, cfg.n_heads)
    earlier = [HeadIndex(below, index) for below in range(min(layer, first + 1)) for index in range(cfg.n_heads)]
    attend, match, copy = PreviousToken(previous), InductionTarget(head), IdealOV(head, gain=gain)
    return {
        "free": [],
        "A: previous token": [attend],
        "B: match": [match],
        "C: copy": [copy],
        "A and B": [attend, match],
        "A and C": [attend, copy],
        "B and C": [match, copy],
        "A forbidden": [Forbid(earlier, keys="previous")],
    }
