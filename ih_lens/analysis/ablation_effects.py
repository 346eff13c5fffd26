"""What ablating heads does to the losses, with its spread over examples."""

import numpy as np
import xarray as xr

from ih_lens.analysis.before_and_after import attribution_to_before_and_after
from ih_lens.analysis.in_context_learning import (
    attribution_to_in_context_learning,
    example_differences,
    in_context_learning_score,
)
from ih_lens.analysis.pairing import check_ablation
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.results import AblationLosses, TokenLosses
from ih_lens.validate import one_of

EFFECTS = ("loss", "in_context_learning", "before_and_after")
_ONLY_MEANS = (
    "of these losses only means over examples were kept at the two context indices; measure with at_indices=(early, "
    "late) and the same window"
)


def ablation_effects(
    ablated: AblationLosses,
    unablated: TokenLosses,
    *,
    on: str = "loss",
    late: int = 500,
    early: int = 50,
    window: int = 0,
    vector: xr.DataArray | None = None,
) -> Estimate:
    """Ablated minus unablated, paired example by example, so that what makes an example hard for both drops out.

    Args:
        ablated: losses after ablations, [layer, head] or [group], also stacked over snapshots.
        unablated: losses of the same model (and snapshots) as it is.
        on: "loss": at each example's random token, positive where the head helps; "in_context_learning": the
            in-context learning score, as `attribution_to_in_context_learning`; "before_and_after": along `vector`, as
            `attribution_to_before_and_after`.
        late: for "in_context_learning".
        early: for "in_context_learning".
        window: for "in_context_learning".
        vector: result of `before_and_after_vector`, for "before_and_after". Its own uncertainty does not enter.

    Returns:
        The change in nats with its standard error, over the leading dimensions of `ablated`. Heads that were not
        ablated are NaN.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: if only means over examples were kept, or the vector is missing.

    Examples:
        >>> effect = ablation_effects(ablated, losses, on="in_context_learning", late=47, early=5)
        >>> effect.value.sel(layer=1, head=3).item(), effect.stderr.sel(layer=1, head=3).item()
        (0.42, 0.05)
        >>> effect.confidence_interval(0.95).sel(bound="low"), effect.p_value(0.0)
    """
    one_of("on", on, EFFECTS)
    check_ablation(ablated, unablated)
    if on == "in_context_learning":
        settings = {"late": late, "early": early, "window": window}
        attribution = attribution_to_in_context_learning(ablated, unablated, **settings)
        ours, theirs = (example_differences(losses, early, late, window) for losses in (ablated, unablated))
        if ours is None or theirs is None:
            raise InputError(_ONLY_MEANS)
        return Estimate.from_examples(ours - theirs, attrs=attribution.attrs)
    change = ablated.random_token.astype(np.float64) - unablated.random_token.astype(np.float64)
    if on == "loss":
        about = "loss at the random token of each example, ablated minus unablated"
        return Estimate.from_examples(change, attrs={**ablated.attrs, "definition": about})
    if vector is None:
        raise InputError("on='before_and_after' needs vector=before_and_after_vector(start, end)")
    projection = attribution_to_before_and_after(ablated, unablated, vector)
    parts = change * vector.to_numpy() * vector.size  # whose mean over examples is the projection
    return Estimate.from_examples(parts, attrs=projection.attrs)


def in_context_learning_estimate(losses: TokenLosses, *, late: int = 500, early: int = 50, window: int = 0) -> Estimate:
    """The in-context learning score with its spread over examples: intervals, p-values, examples needed.

    Arguments and score are those of `in_context_learning_score`.

    Returns:
        The score in nats, over the leading dimensions of the losses.

    Raises:
        InputError: as `in_context_learning_score`, and if only means over examples were kept.

    Examples:
        >>> estimate = in_context_learning_estimate(losses)
        >>> estimate.confidence_interval(0.95), examples_needed(estimate, half_width=0.1)
    """
    score = in_context_learning_score(losses, late=late, early=early, window=window)
    differences = example_differences(losses, early, late, window)
    if differences is None:
        raise InputError(_ONLY_MEANS)
    return Estimate.from_examples(differences, attrs=score.attrs)
