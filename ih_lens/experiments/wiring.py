"""How heads act on later layers: ablated with patterns, or with values, kept as they were (Singh et al. 2024)."""

from collections.abc import Sequence

import pandas as pd

from ih_lens.clamping._base import Clamp
from ih_lens.clamping.clamps.head_outputs import ZeroHead
from ih_lens.clamping.clamps.preserve import Preserve
from ih_lens.clamping.hooks import in_effect
from ih_lens.clamping.plan import Plan
from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.experiments.race import mean_loss
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.progress import with_progress
from ih_lens.types import HeadIndex, HeadSpelling

PATHS: dict[str, tuple[str, ...]] = {
    "everything": (),
    "not through patterns": ("pattern",),
    "not through values": ("v",),
    "not through queries": ("q",),
    "not through keys": ("k",),
    "only past the later layers": ("pattern", "v"),
}


def wiring(
    model: LoadedModel, evals: EvalSet, groups: Sequence[Sequence[HeadSpelling]], *, progress: bool = True
) -> pd.DataFrame:
    """The cost of ablating groups of heads, with what later layers make of them kept in part.

    A group that costs much with patterns kept acts through values (V-composition); one that costs much with values kept
    acts through patterns (Q- and K-composition).

    Args:
        model: the model.
        evals: examples; losses are means over all context indices.
        groups: heads that are ablated together, of layers before the last.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        Columns `heads`, `ablated` (the paths that carry it, by `PATHS`), `loss`, and `cost`, the loss beyond that of
        the whole model, in nats per token.

    Raises:
        InputError: if a group has heads of the last layer, which nothing reads but the logits.

    Examples:
        >>> wiring(model, evals, [["L0H1", "L0H2"], ["L0H0"]])
    """
    whole = mean_loss(model, evals)
    rows: list[dict[str, str | float]] = []
    for group in with_progress(groups, "wiring", total=len(groups), show=progress):
        heads = [HeadIndex.parse(head) for head in group]
        later = range(1 + max((head.layer for head in heads), default=-1), model.cfg.n_layers)
        if not heads or not later:
            raise InputError(f"groups: expected heads of layers before the last, got {list(group)}")
        for path, kept in PATHS.items():
            clamps: list[Clamp] = [ZeroHead(heads), *(Preserve(what, layers=list(later)) for what in kept)]
            with in_effect(model, Plan(clamps)):  # a path that carries nothing is a finding, not a mistake
                loss = mean_loss(model, evals)
            rows.append({"heads": ", ".join(map(str, heads)), "ablated": path, "loss": loss, "cost": loss - whole})
    return pd.DataFrame(rows)
