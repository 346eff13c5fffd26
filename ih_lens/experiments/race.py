"""The additive race of heads: one alone, all but one, one after the other (Singh et al. 2024, section 4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pandas as pd

from ih_lens.clamping._base import Clamp
from ih_lens.clamping.apply import clamp
from ih_lens.clamping.clamps.head_outputs import ZeroHead
from ih_lens.clamping.plan import Clamps
from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.measure.token_losses import token_losses
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.progress import with_progress
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import one_of

MODES = ("only", "leave_one_out", "add_back")
Measured: TypeAlias = EvalSet | Callable[[LoadedModel], float]
"""What a loss is measured on: examples, or a function that gives the loss of the model as it is clamped then."""


def race_conditions(heads: Sequence[HeadSpelling], mode: str) -> dict[str, list[Clamp]]:
    """Conditions in which some of a set of heads are ablated, for `train_conditions` and `losses_under`.

    Args:
        heads: the heads that race, usually all of a layer; for "add_back" in the order in which they come back.
        mode: "only" leaves one head at a time, "leave_one_out" takes one away at a time, "add_back" begins with the
            first head alone and lets one more come back in each condition.

    Returns:
        Clamps by condition, "all" (nothing ablated) among them.

    Raises:
        InputError: for another mode, or fewer than two different heads.

    Examples:
        >>> race_conditions(["L1H0", "L1H1"], "only")
        {'all': [], 'only L1H0': [ZeroHead(...)], 'only L1H1': [ZeroHead(...)]}
    """
    one_of("mode", mode, MODES)
    racing = [HeadIndex.parse(head) for head in heads]
    if len(racing) < 2 or len(set(racing)) < len(racing):
        raise InputError(f"heads: expected at least two different heads, got {list(heads)}")
    ablated: dict[str, list[HeadIndex]] = {"all": []}
    for place, head in enumerate(racing):
        others = [other for other in racing if other != head]
        if mode == "only":
            ablated[f"only {head}"] = others
        elif mode == "leave_one_out":
            ablated[f"without {head}"] = [head]
        elif place < len(racing) - 1:
            ablated[f"first {place + 1}, up to {head}"] = racing[place + 1 :]
    return {name: [ZeroHead(gone)] if gone else [] for name, gone in ablated.items()}


def losses_under(
    model: LoadedModel, evals: Measured, conditions: Mapping[str, Clamps], *, progress: bool = True
) -> pd.DataFrame:
    """Mean losses of one model under several conditions at test time.

    Args:
        model: the model.
        evals: examples, over all context indices of which the mean goes; or a function of the model that gives a loss,
            such as `lambda model: exemplar_metrics(model, tokens)["loss"]`.
        conditions: clamps by name.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        Columns `condition` and `loss` in nats per token.

    Examples:
        >>> losses_under(model, evals, race_conditions(["L1H0", "L1H1"], "leave_one_out"))
    """
    measured = with_progress(conditions.items(), "losses under clamps", total=len(conditions), show=progress)
    found = {name: mean_loss(model, evals, clamps) for name, clamps in measured}
    return pd.DataFrame({"condition": list(found), "loss": list(found.values())})


def mean_loss(model: LoadedModel, evals: Measured, clamps: Clamps = ()) -> float:
    """The loss under clamps in nats: of examples, a mean over all of them and all context indices."""
    with clamp(model, clamps):
        if not isinstance(evals, EvalSet):
            return float(evals(model))
        return float(token_losses(model, evals, progress=False).by_context_index.mean())
