"""How much of what a head does is done by an exact rule in place of its pattern (the replication in the paper)."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ih_lens.clamping._base import Clamp, Heads
from ih_lens.clamping.clamps.head_outputs import ZeroHead
from ih_lens.clamping.clamps.induction_target import InductionTarget
from ih_lens.clamping.clamps.previous_token import PreviousToken
from ih_lens.data.eval_set import EvalSet
from ih_lens.experiments.race import losses_under
from ih_lens.models.hooked_transformer import LoadedModel


@dataclass(frozen=True)
class Rules:
    """Exact patterns by name, for some heads."""

    heads: Heads

    def clamps(self) -> Mapping[str, list[Clamp]]:
        """Previous token; [A][B]...[A] matches plus the start token; the same with a second token that must match."""
        return {
            "previous token": [PreviousToken(self.heads)],
            "[A][B]...[A]": [InductionTarget(self.heads, otherwise="start")],
            "[A][B][C]...[A][B]": [InductionTarget(self.heads, n_prefix=2, otherwise="start")],
        }


def idealised_patterns(model: LoadedModel, evals: EvalSet, heads: Heads, *, progress: bool = True) -> pd.DataFrame:
    """The share of a head's effect on the loss that an exact pattern recovers.

    Args:
        model: the model.
        evals: examples that begin with a start token, to which queries without a match attend.
        heads: one head or several, which get the same rule.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        Columns `pattern`, `loss` in nats per token, and `recovered`: (ablated - idealised) / (ablated - natural); 1 for
        the natural pattern, 0 for the ablated head, and not bounded.

    Examples:
        >>> idealised_patterns(model, evals, "L5H5")
    """
    conditions: dict[str, list[Clamp]] = {"natural": [], "ablated": [ZeroHead(heads)], **Rules(heads).clamps()}
    found = losses_under(model, evals, conditions, progress=progress).rename(columns={"condition": "pattern"})
    natural, ablated = found["loss"][0], found["loss"][1]
    return found.assign(recovered=(ablated - found["loss"]) / (ablated - natural))
