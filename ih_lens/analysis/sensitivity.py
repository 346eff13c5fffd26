"""What the in-context learning score would be with other context indices than 50 and 500."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ih_lens.analysis.in_context_learning import in_context_learning_score
from ih_lens.analysis.loss_curves import loss_by_context_index
from ih_lens.errors import InputError
from ih_lens.results import TokenLosses
from ih_lens.validate import default_context_indices

_STEPS = (1, 2, 3, 5, 7)
"""Leading digits of the context indices that are taken where none are given: about evenly spaced in the logarithm."""


def in_context_learning_sensitivity(
    losses: TokenLosses | xr.DataArray, *, late: Sequence[int] | None = None, early: Sequence[int] | None = None
) -> xr.DataArray:
    """The in-context learning score for every pair of a late and an early context index.

    Args:
        losses: losses, or a result of `loss_by_context_index`, [..., context_index].
        late: context indices of the later token, ascending. By default 1, 2, 3, 5, 7, 10, 20, ... as far as the context
            goes, the two indices that the score has by default, and the last one.
        early: context indices of the earlier token, ascending; by default the same.

    Returns:
        [..., late, early] in nats: the mean loss at `late` minus that at `early`, NaN where `early` is not before
        `late`. The coordinate `stderr` is the standard error where each example's losses at both indices were kept,
        NaN elsewhere. `attrs` name the pair that the score has by default (`default_late`, `default_early`), where
        the context has room for one.

    Raises:
        InputError: if an index was not measured, or they do not ascend.

    Examples:
        >>> float(in_context_learning_sensitivity(losses).sel(late=500, early=50))
        -0.41

    The paper varies the definition for its large models (Unexplained Curiosities, Seemingly Constant In-Context
    Learning Score): the last token's loss against that at other indices.
    """
    means = loss_by_context_index(losses) if isinstance(losses, TokenLosses) else losses
    if "context_index" not in means.dims:
        raise InputError(f"expected losses by context index, got dimensions {means.dims}; use loss_by_context_index")
    held = means["context_index"].to_numpy().tolist()
    default = _default(max(held) + 1)
    shown = [index for index in held if _is_step(index) or index in (*default, max(held))]
    lates, earlies = (_checked(name, chosen or shown, held) for name, chosen in (("late", late), ("early", early)))
    values = means.astype(np.float64)
    differences = _at(values, "late", lates) - _at(values, "early", earlies)
    before = xr.DataArray(earlies, dims="early") < xr.DataArray(lates, dims="late")
    scores = differences.where(before).transpose(..., "late", "early")
    parameters = dict(zip(("default_early", "default_late"), default, strict=False))
    attributes = {**means.attrs, "definition": "mean loss at late minus mean loss at early", "unit": "nats"}
    return (
        scores.assign_coords(stderr=_standard_errors(losses, scores).variable)
        .rename("in_context_learning_sensitivity")
        .assign_attrs({**attributes, **parameters})
    )


def _default(n_pos: int) -> tuple[int, ...]:
    """The pair of the score by default, early first; empty where the context is too short for one."""
    try:
        return default_context_indices(n_pos)
    except InputError:
        return ()


def _is_step(index: int) -> bool:
    """Whether an index is one of 1, 2, 3, 5, 7, 10, 20, 30, ..."""
    digits = str(index)
    return int(digits[0]) in _STEPS and not digits[1:].strip("0")


def _checked(name: str, chosen: Sequence[int], held: Sequence[int]) -> list[int]:
    """Indices that were measured, ascending."""
    if missing := [index for index in chosen if index not in held]:
        raise InputError(
            f"{name}: the losses at context indices {missing} were not kept (kept: {held}); choose among them, or "
            'measure again with context_indices="all"'
        )
    if (np.diff(chosen) <= 0).any():
        raise InputError(f"{name}: expected ascending context indices, got {list(chosen)}; sort them")
    return list(chosen)


def _at(values: xr.DataArray, name: str, indices: list[int]) -> xr.DataArray:
    """Losses at some context indices, along a dimension of its own."""
    chosen = values.sel(context_index=indices).rename(context_index=name)
    return chosen.drop_vars("stderr", errors="ignore")


def _standard_errors(losses: TokenLosses | xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Of each score, where each example's losses at both indices are known."""
    errors = xr.full_like(scores, np.nan)
    if not isinstance(losses, TokenLosses):
        return errors
    views = losses.dataset
    everywhere = "full" in views.data_vars
    at_some = "at_indices" in views.data_vars and not int(losses.attrs.get("window", 0))
    known = set(views["at_index"].to_numpy().tolist()) if at_some else set[int]()
    for late in scores["late"].to_numpy().tolist():
        for early in scores["early"].to_numpy().tolist():
            if early < late and (everywhere or {early, late} <= known):
                place = {"late": late, "early": early}
                errors.loc[place] = in_context_learning_score(losses, **place)["stderr"]
    return errors
