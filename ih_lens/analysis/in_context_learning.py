"""The in-context learning score: how much better later tokens are predicted than earlier ones (paper, Analyses)."""

import numpy as np
import xarray as xr

from ih_lens.analysis.pairing import check_ablation, check_pair
from ih_lens.analysis.spread import standard_error_over_examples
from ih_lens.errors import InputError
from ih_lens.results import AblationLosses, TokenLosses
from ih_lens.validate import at_least, default_context_indices


def in_context_learning_score(
    losses: TokenLosses, *, late: int = 500, early: int = 50, window: int = 0
) -> xr.DataArray:
    """Mean loss at context index `late` minus mean loss at `early`; negative when the model learns in context.

    Args:
        losses: any losses, plain, after ablations or stacked over snapshots.
        late: context index of the later predicted token, zero-based in what the model sees.
        early: context index of the earlier one.
        window: each loss is first averaged over the indices i - window .. i + window that the context has.

    Returns:
        The score in nats over the leading dimensions of the losses (none, so that `float()` takes it, or snapshot,
        (layer, head), group), with the coordinate `stderr`: the standard error of the mean over examples of each
        example's own difference. It is NaN where only means over examples were kept, or one example.

    Raises:
        InputError: if the losses do not hold these indices, or `early` is not before `late`.

    Examples:
        >>> score = in_context_learning_score(losses, late=47, early=5)
        >>> float(score), float(score.stderr)
        (-1.88, 0.05)

    The paper's "in-context learning score" (Analyses, Per-token losses) uses 500 and 50 in contexts of 512.
    """
    at_least("early", early, 1)
    at_least("window", window, 0)
    if at_least("late", late, 1) <= early:
        raise InputError(f"expected early before late, got early={early} and late={late}; exchange them")
    _check_held(losses, early, late, window)
    parameters = {"late": late, "early": early, "window": window}
    differences = example_differences(losses, early, late, window)
    if differences is None:
        means = losses.by_context_index.astype(np.float64)
        score = _mean_around(means, late, window) - _mean_around(means, early, window)
        stderr = xr.full_like(score, np.nan)
    else:
        score, stderr = differences.mean("example", skipna=False), standard_error_over_examples(differences)
    return _labelled(score, stderr, losses, "loss at late minus loss at early, mean over examples", parameters)


def in_context_learning_difference(
    first: TokenLosses, second: TokenLosses, *, late: int = 500, early: int = 50, window: int = 0
) -> xr.DataArray:
    """In-context learning score of `first` minus that of `second`, paired on their examples.

    The standard error is that of the paired differences, which is smaller than the two scores' own errors suggest
    as far as the same examples are hard for both.

    Args:
        first: losses of one model, or after an ablation.
        second: losses of the other model, or without the ablation. Dimensions that only one has are broadcast.
        late: as for `in_context_learning_score`.
        early: as for `in_context_learning_score`.
        window: as for `in_context_learning_score`.

    Returns:
        The difference in nats with the coordinate `stderr`; NaN where either kept only means over examples.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: as for `in_context_learning_score`, and if both are stacked over different snapshots.

    Examples:
        >>> float(in_context_learning_difference(plain, smeared, late=47, early=5))
        1.31
    """
    check_pair(first, second)
    settings = {"late": late, "early": early, "window": window}
    score = in_context_learning_score(first, **settings) - in_context_learning_score(second, **settings)
    ours, theirs = (example_differences(losses, early, late, window) for losses in (first, second))
    paired = None if ours is None or theirs is None else ours - theirs
    stderr = xr.full_like(score, np.nan) if paired is None else standard_error_over_examples(paired)
    return _labelled(score, stderr, first, "difference of in-context learning scores, first minus second", settings)


def attribution_to_in_context_learning(
    ablated: AblationLosses, unablated: TokenLosses, *, late: int = 500, early: int = 50, window: int = 0
) -> xr.DataArray:
    """What ablating each head does to the in-context learning score: ablated minus unablated.

    Positive where removing the head takes in-context learning away.

    Args:
        ablated: losses after ablations, [layer, head] or [group], also stacked over snapshots.
        unablated: losses of the same model (and snapshots) as it is.
        late: as for `in_context_learning_score`.
        early: as for `in_context_learning_score`.
        window: as for `in_context_learning_score`.

    Returns:
        The change in nats over the leading dimensions of `ablated`, with the coordinate `stderr` from paired
        examples. Heads that were not ablated are NaN.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: as for `in_context_learning_difference`.

    Examples:
        >>> attribution_to_in_context_learning(ablated, losses, late=47, early=5).dims
        ('layer', 'head')

    The paper's second view of the ablations (Analyses, Ablation attribution to phase change).
    """
    check_ablation(ablated, unablated)
    change = in_context_learning_difference(ablated, unablated, late=late, early=early, window=window)
    return change.assign_attrs(definition="in-context learning score, ablated minus unablated")


def _labelled(
    score: xr.DataArray, stderr: xr.DataArray, losses: TokenLosses, definition: str, parameters: dict[str, int]
) -> xr.DataArray:
    """The score with its standard error and provenance."""
    attributes = {**losses.attrs, "definition": definition, "unit": "nats", **parameters}
    labelled = score.drop_vars("stderr", errors="ignore").assign_coords(stderr=stderr.variable)
    return labelled.rename("in_context_learning_score").assign_attrs(attributes)


def example_differences(losses: TokenLosses, early: int, late: int, window: int) -> xr.DataArray | None:
    """Each example's loss at late minus at early, in double precision; None where only means were kept."""
    views = losses.dataset.data_vars
    if _in_at_indices(losses, early, late, window):
        values, held = losses.at_indices.astype(np.float64), losses.dataset["at_index"].to_numpy().tolist()
        at_late, at_early = (values.isel(at_index=held.index(index), drop=True) for index in (late, early))
        return at_late - at_early
    if "full" in views:
        values = losses.full.astype(np.float64)
        return _mean_around(values, late, window) - _mean_around(values, early, window)
    return None


def _in_at_indices(losses: TokenLosses, early: int, late: int, window: int) -> bool:
    """Whether each example's losses at these indices, averaged over this window, were kept."""
    if "at_indices" not in losses.dataset.data_vars or int(losses.attrs.get("window", 0)) != window:
        return False
    return {early, late} <= set(losses.dataset["at_index"].to_numpy().tolist())


def _mean_around(values: xr.DataArray, index: int, window: int) -> xr.DataArray:
    """Mean over the context indices within `window` of `index`."""
    held = values["context_index"].to_numpy()
    return values.isel(context_index=np.flatnonzero(np.abs(held - index) <= window)).mean("context_index", skipna=False)


def _check_held(losses: TokenLosses, early: int, late: int, window: int) -> None:
    """Refuse indices without losses, and windows with gaps: their mean would be over other indices than asked."""
    if _in_at_indices(losses, early, late, window):
        return
    held = set(losses.dataset["context_index"].to_numpy().tolist()) if "by_context_index" in losses.dataset else set()
    whole = held == set(range(1, len(held) + 1))
    if whole and held and late > max(held):
        raise InputError(_too_short(late, early, max(held) + 1))
    wanted = {index for centre in (early, late) for index in range(centre - window, centre + window + 1)}
    missing = sorted({index for index in wanted if not whole or index in (early, late)} - held)
    if missing:
        around = f" with window={window}" if window else ""
        raise InputError(
            f"early={early} and late={late}{around} need the losses at context indices {missing}, which were not kept "
            f'(kept: {sorted(held)}); measure again with context_indices="all" or at_indices=({early}, {late}), '
            f"window={window}, or pass early= and late= that were kept"
        )


def _too_short(late: int, early: int, n_pos: int) -> str:
    """What to pass for a context without these indices."""
    try:
        proposal = "early={}, late={}".format(*default_context_indices(n_pos))
    except InputError:
        return f"examples of {n_pos} tokens are too short for an in-context learning score; measure longer ones"
    return (
        f"early={early} and late={late} do not lie inside examples of {n_pos} tokens (context indices 1..{n_pos - 1}); "
        f"pass early= and late= that do, for example {proposal}"
    )
