"""The loss by classes of tokens: those that induction from the context can predict against the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from ih_lens.analysis.pairing import check_pair
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.results import TokenLosses
from ih_lens.validate import at_least

CHANGING_SHARES = "changing shares"
"""The part of an in-context learning score that comes from classes becoming more or less frequent."""

Masks = Mapping[str, Tensor]


def loss_split(
    losses: TokenLosses | xr.Dataset, classes: Masks | None = None, *, minus: TokenLosses | xr.Dataset | None = None
) -> Estimate:
    """Mean loss of the tokens of each class, or its change.

    Args:
        losses: losses, also stacked over snapshots or after ablations; or a result of `class_losses`, which knows its
            classes. Of losses the richest view is used that was kept: every one (`keep="all"`), else those at
            `at_indices` (without a window), else the one at the random index of each example.
        classes: masks [example, pos] of the same examples by name, such as `token_classes(evals.tokens)`.
        minus: losses that are subtracted, paired example by example: those without the ablation, or of an earlier
            snapshot. Dimensions that only `losses` has are broadcast.

    Returns:
        [..., token_class] in nats, a mean over tokens, with the standard error that follows from differences between
        examples (tokens of one example are not independent; that of a ratio of sums, by linearisation). NaN for a
        class without tokens. The coordinate `share` says which share of the tokens each class has.

    Raises:
        FingerprintError: if the two were measured on different examples.
        InputError: if classes are missing or of another shape, or no view fits.

    Examples:
        >>> split = loss_split(token_losses(model, evals, keep="all"), token_classes(evals.tokens))
        >>> split.value.sel(token_class="predictable").item(), split.stderr.sel(token_class="predictable").item()
        (0.71, 0.01)
        >>> harm = loss_split(ablated, token_classes(evals.tokens), minus=losses)
    """
    totals, counts, about = _totals(losses, classes)
    if minus is not None:
        if isinstance(losses, TokenLosses) and isinstance(minus, TokenLosses):
            check_pair(losses, minus)
        theirs, their_counts, other = _totals(minus, classes)
        if about["fingerprint"] != other["fingerprint"] or not counts.equals(their_counts):
            raise InputError(
                "losses and minus: their classes hold other tokens; measure both on one EvalSet, with the same view "
                f"(one has {about['view']!r}, the other {other['view']!r})"
            )
        totals = totals - theirs
    n_tokens = counts.sum("example").astype(np.float64)
    n_tokens = n_tokens.where(n_tokens > 0)
    value = totals.sum("example", skipna=False) / n_tokens
    linearised = value + (totals - value * counts) / n_tokens * counts.sizes["example"]  # whose mean is the value
    shares = (n_tokens.fillna(0) / about["n_predicted"]).to_numpy()
    about["definition"] = "mean loss of the tokens of each class" + ("" if minus is None else ", less that of `minus`")
    examples = linearised.assign_coords(share=("token_class", shares)).transpose("example", ..., "token_class")
    return Estimate.from_examples(examples.rename("loss_split"), attrs={**about, "unit": "nats"})


def in_context_learning_split(
    losses: TokenLosses, classes: Masks, *, late: int = 500, early: int = 50, window: int = 0
) -> Estimate:
    """The parts of the in-context learning score: how much better each class is predicted, and their changing shares.

    With p the share of a class at an index and l its mean loss, the score is the sum over classes of p_late l_late -
    p_early l_early. That is exactly the sum of one part per class, the mean of both p times (l_late - l_early): its
    tokens are predicted better; and of one more, the sum of (p_late - p_early) times the mean of both l: later in the
    context more tokens are of classes that are easy.

    Args:
        losses: with every loss kept (`keep="all"`), or those at the indices that are needed; also stacked or ablated.
        classes: as `loss_split`, every token from context index 1 on in exactly one.
        late: as for `in_context_learning_score`.
        early: as for `in_context_learning_score`.
        window: each index stands for i - window .. i + window; single indices have few tokens of each class.

    Returns:
        [..., part] in nats: a part per class and "changing shares"; their sum is the score. Standard errors by the
        jackknife over examples. A class without tokens at one of the indices counts with its loss at the other.

    Raises:
        InputError: if indices are missing, or classes overlap or leave tokens out.

    Examples:
        >>> parts = in_context_learning_split(losses, token_classes(evals.tokens), late=44, early=5, window=3)
        >>> (parts.value / parts.value.sum("part")).to_series()
    """
    if at_least("late", late, 1) <= at_least("early", early, 1):
        raise InputError(f"expected early before late, got early={early} and late={late}; exchange them")
    at_least("window", window, 0)
    last = int(losses.dataset["context_index"].max())
    around = {i: range(max(1, i - window), min(max(i, last), i + window) + 1) for i in (early, late)}
    values, _ = _per_token(losses, sorted({*around[early], *around[late]}))
    inside = _aligned(classes, values)
    if not bool((inside.sum("token_class") == 1).all()):
        raise InputError("classes: expected every token in exactly one class; add a class for the rest")
    chosen = [inside * values["context_index"].isin(list(around[index])) for index in (early, late)]
    sums = [xr.dot(values, mask.astype(np.float64), dim="context_index") for mask in chosen]
    counts = [mask.sum("context_index") for mask in chosen]
    whole_sums, whole_counts = ([each.sum("example", skipna=False) for each in parts] for parts in (sums, counts))
    value = _parts(whole_sums, whole_counts)
    about = {**losses.attrs, "late": late, "early": early, "window": window, "unit": "nats"}
    about["definition"] = "parts of the in-context learning score by class of token; spread by the jackknife"
    examples, n_examples = value.expand_dims("example"), values.sizes["example"]
    if n_examples > 1:
        rest_sums = [whole - own for whole, own in zip(whole_sums, sums, strict=True)]
        rest_counts = [whole - own for whole, own in zip(whole_counts, counts, strict=True)]
        without = _parts(rest_sums, rest_counts)
        examples = value + (n_examples - 1) * (without.mean("example", skipna=False) - without)  # mean is the value
    examples = examples.transpose("example", ..., "part").rename("in_context_learning_split")
    return Estimate.from_examples(examples, attrs={**about})


def _parts(sums: list[xr.DataArray], counts: list[xr.DataArray]) -> xr.DataArray:
    """From sums of losses and numbers of tokens of each class at both indices, [..., part]."""
    shares = [count / count.sum("token_class") for count in counts]
    means = [total / count.where(count > 0) for total, count in zip(sums, counts, strict=True)]
    losses = [own.where(count > 0, other) for own, count, other in zip(means, counts, means[::-1], strict=True)]
    better = (shares[0] + shares[1]) / 2 * (losses[1] - losses[0])
    moved = (shares[1] - shares[0]) * (losses[0] + losses[1]) / 2
    absent = (counts[0] == 0) & (counts[1] == 0)
    by_class = better.where(~absent, 0.0).rename(token_class="part")
    shifted = moved.where(~absent, 0.0).sum("token_class", skipna=False).expand_dims(part=[CHANGING_SHARES])
    return xr.concat([by_class, shifted], dim="part", coords="minimal", compat="override")


def _totals(
    losses: TokenLosses | xr.Dataset, classes: Masks | None
) -> tuple[xr.DataArray, xr.DataArray, dict[str, Any]]:
    """Sum of losses and number of tokens of each class in each example, and what is known of them."""
    if isinstance(losses, xr.Dataset):
        if not {"total", "count"} <= set(losses.data_vars) or classes is not None:
            raise InputError("losses: expected a result of class_losses, and then no classes: it was summed by its own")
        return losses["total"], losses["count"], {**losses.attrs, "view": "all tokens"}
    if classes is None:
        raise InputError("classes: expected masks by name; pass token_classes(evals.tokens)")
    values, view = _per_token(losses)
    inside = _aligned(classes, values)
    n_predicted = values.sizes["example"] * values.sizes.get("context_index", 1)
    about = {**losses.attrs, "view": view, "n_predicted": n_predicted}
    if view == "random_token":
        return values * inside, inside.astype(np.int64), about
    sums = xr.dot(values, inside.astype(np.float64), dim="context_index")
    return sums, inside.sum("context_index"), about


def _per_token(losses: TokenLosses, wanted: Sequence[int] | None = None) -> tuple[xr.DataArray, str]:
    """Losses of single tokens: [..., example, context_index], or at the random index of each example.

    With `wanted`, losses at these context indices at least.
    """
    held, at = losses.dataset.data_vars, losses.dataset["at_index"].to_numpy().tolist()
    if "full" in held and set(wanted or ()) <= set(losses.dataset["context_index"].to_numpy().tolist()):
        return losses.full.astype(np.float64), "full"
    single = "at_indices" in held and int(losses.attrs.get("window", 0)) == 0
    if single and (len(at) > 2 if wanted is None else set(wanted) <= set(at)):
        return losses.at_indices.astype(np.float64).rename(at_index="context_index"), "at_indices"
    if wanted is None:
        return losses.random_token.astype(np.float64), "random_token"
    raise InputError(
        f"the losses of single examples at the context indices {list(wanted)} were not kept, or do not exist; measure "
        'with keep="all" or these at_indices, or pass early=, late= and window= that were kept'
    )


def _aligned(classes: Masks, values: xr.DataArray) -> xr.DataArray:
    """The masks at the tokens of these losses, [token_class, example, ...]."""
    if not classes:
        raise InputError("classes: expected at least one mask, got none")
    masks = np.stack([np.asarray(mask.detach().cpu()) for mask in classes.values()])
    per_index = "context_index" in values.dims
    needed = int(values["context_index" if per_index else "random_index"].max())
    fits = masks.ndim == 3 and masks.shape[1] == values.sizes["example"] and masks.shape[2] > needed
    if masks.dtype != bool or not fits:
        raise InputError(
            f"classes: expected masks [example, pos] of {values.sizes['example']} examples with context indices up to "
            f"{needed} at least, got {masks.shape[1:]} {masks.dtype}; make them from the tokens that were measured"
        )
    names = {"token_class": list(classes)}
    if per_index:
        indices = values["context_index"].to_numpy()
        picked = masks[:, :, indices]
        return xr.DataArray(picked, {**names, "context_index": indices}, ("token_class", "example", "context_index"))
    places = values["random_index"].to_numpy().astype(np.int64)
    return xr.DataArray(masks[:, np.arange(len(places)), places], names, ("token_class", "example"))
