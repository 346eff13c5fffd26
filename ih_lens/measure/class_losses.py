"""Losses summed by classes of tokens while they are measured, so that not all of them need be kept."""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.predictable_tokens import token_classes
from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.measure.token_losses import token_losses
from ih_lens.progress import with_progress
from ih_lens.results import json_safe
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

_TOKENS_AT_ONCE = 2**18


def class_losses(
    model: ModelLike,
    evals: EvalSet,
    classes: Mapping[str, Tensor] | None = None,
    *,
    n: int = 1,
    occurrence: str = "any",
    examples_at_once: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Each example's sum of losses over the tokens of each class: what `loss_split` makes means of.

    Keeps one number per example and class in place of one per token: for sets too large for `keep="all"`.

    Args:
        model: a HookedTransformer, or a bridge.
        evals: examples.
        classes: masks [example, pos] by name; by default `token_classes(evals.tokens, n=n, occurrence=occurrence)`.
        n: of the default classes.
        occurrence: of the default classes.
        examples_at_once: how many examples' losses exist at once; by default 2^18 tokens.
        batch_size: as in `token_losses`.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        `total` [token_class, example], in nats, and `count` [token_class, example].

    Raises:
        InputError: if a mask has another shape than the tokens; else as `token_losses`.

    Examples:
        >>> loss_split(class_losses(model, evals)).value.to_series()
    """
    masks = token_classes(evals.tokens, n=n, occurrence=occurrence) if classes is None else dict(classes)
    for name, mask in masks.items():
        if mask.shape != evals.tokens.shape or mask.dtype != torch.bool:
            raise InputError(
                f"classes[{name!r}]: expected a mask of shape {tuple(evals.tokens.shape)}, as the tokens, got "
                f"{tuple(mask.shape)} {mask.dtype}"
            )
    default = max(1, _TOKENS_AT_ONCE // evals.n_pos)
    size = default if examples_at_once is None else at_least("examples_at_once", examples_at_once, 1)
    totals = np.zeros((len(masks), evals.n_examples))
    starts = range(0, evals.n_examples, size)
    for start in with_progress(starts, "losses by class", total=len(starts), show=progress):
        part = EvalSet.from_tokens(evals.tokens[start : start + size], seed=evals.seed)
        losses = token_losses(model, part, keep="all", batch_size=batch_size, progress=False)
        full = torch.as_tensor(losses.full.to_numpy(), device="cpu").double()
        for place, mask in enumerate(masks.values()):
            inside = mask[start : start + size, 1:].cpu()
            totals[place, start : start + len(full)] = torch.where(inside, full, 0.0).sum(dim=1).numpy()
    counts = np.stack([mask[:, 1:].sum(dim=1).cpu().numpy() for mask in masks.values()])
    about = {"n": n, "occurrence": occurrence} if classes is None else {}
    attributes = provenance(
        model,
        measure="class_losses",
        fingerprint=evals.fingerprint,
        examples=evals.description,
        n_predicted=evals.n_examples * (evals.n_pos - 1),
        **about,
    )
    dims = ("token_class", "example")
    return xr.Dataset(
        {"total": (dims, totals), "count": (dims, counts)}, {"token_class": list(masks)}, json_safe(attributes)
    )
