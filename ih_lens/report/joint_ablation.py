"""All induction heads of a model ablated together, beside each alone: redundancy hides single heads."""

from collections.abc import Mapping

import xarray as xr

from ih_lens.analysis.in_context_learning import attribution_to_in_context_learning, in_context_learning_score
from ih_lens.report.measured import MeasuredModel
from ih_lens.results import AblationLosses
from ih_lens.types import HeadIndex


def induction_heads(head_types: xr.DataArray) -> list[HeadIndex]:
    """The heads of type "induction", by layer and head.

    Args:
        head_types: [layer, head], as `ih_lens.analysis.head_types` gives it.
    """
    grid = head_types.transpose("layer", "head").to_numpy()
    return [HeadIndex(*map(int, place)) for place in zip(*(grid == "induction").nonzero(), strict=True)]


def groups_to_ablate(heads: list[HeadIndex]) -> list[list[str]]:
    """Each head by itself, then all of them as one group (which a single head is already)."""
    single = [[str(head)] for head in heads]
    return single if len(heads) < 2 else [*single, [str(head) for head in heads]]


def joint_ablation(model: MeasuredModel, ablated: Mapping[str, AblationLosses]) -> xr.Dataset:
    """What each ablation leaves of the last snapshot's in-context learning.

    Args:
        model: the model that the losses belong to.
        ablated: losses of the last snapshot after ablating `groups_to_ablate`, per kind of ablation.

    Returns:
        Over (kind, group), the last group being all induction heads: `score`, the in-context learning score after the
        ablation, and `change`, minus the unablated score, in nats, with their standard errors `score_stderr` and
        `change_stderr` (the latter paired on examples); `share_removed` = change / -(unablated score), and
        `share_removed_stderr`, in which the unablated score counts as exact. The attributes `unablated` and
        `unablated_stderr` hold the score without ablation.
    """
    last = model.at_snapshot(-1)
    unablated = in_context_learning_score(last, **model.scoring)
    parts = []
    for losses in ablated.values():
        score = in_context_learning_score(losses, **model.scoring)
        change = attribution_to_in_context_learning(losses, last, **model.scoring)
        values = {
            "score": score.drop_vars("stderr"),
            "score_stderr": score["stderr"],
            "change": change.drop_vars("stderr"),
            "change_stderr": change["stderr"],
        }
        plain = {name: (("group",), value.to_numpy(), {"unit": "nats"}) for name, value in values.items()}
        parts.append(xr.Dataset(plain, {"group": losses.dataset["group"].to_numpy()}))
    joined = xr.concat(parts, dim=xr.Variable("kind", list(ablated)))
    size = -float(unablated)
    joined["share_removed"] = joined["change"] / size
    joined["share_removed_stderr"] = joined["change_stderr"] / abs(size)
    return joined.assign_attrs(unablated=float(unablated), unablated_stderr=float(unablated["stderr"]))
