"""What is measured on a snapshot for the table: one entry of the store per measurement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablate_heads import ablate_heads
from ih_lens.measure.score_heads import default_measures, score_heads
from ih_lens.measure.token_losses import token_losses
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.report.form import Form, Numbers, labels_of
from ih_lens.report.settings import TableSettings


@dataclass(frozen=True)
class Measurement:
    """One measurement of a loaded model.

    Attributes:
        version: raised whenever the numbers change, so that older entries of a store are not taken for them.
        measure: from model, examples, settings and options to a labelled data set.
        parameters: the part of the (resolved) settings that the numbers depend on.
        form: from configuration, examples, settings and options to what a stored entry must look like.
        sweeps_heads: whether the examples go through the model once for every head.
    """

    version: int
    measure: Callable[..., xr.Dataset]
    parameters: Callable[[TableSettings], Mapping[str, Any]]
    form: Callable[..., Form]
    sweeps_heads: bool = False


def measure_losses(model: HookedTransformer, evals: EvalSet, settings: TableSettings) -> xr.Dataset:
    """Per-token losses of the unablated model, in all views."""
    losses = token_losses(model, evals, progress=False, **_views(settings), **_batches(settings))
    return losses.dataset


def measure_head_scores(model: HookedTransformer, evals: EvalSet, settings: TableSettings) -> xr.Dataset:
    """Every head evaluator; previous-token attention on the first evaluation examples."""
    text = evals.tokens[: settings.n_text_examples]
    return score_heads(model, seed=settings.seed, text=text).dataset


def measure_ablation(
    model: HookedTransformer,
    evals: EvalSet,
    settings: TableSettings,
    *,
    kind: str | None = None,
    heads: Sequence[Sequence[str]] | None = None,
) -> xr.Dataset:
    """Losses at the random token and at the two context indices with heads ablated, each by itself unless grouped."""
    views = _views(settings)
    ablated = ablate_heads(
        model,
        evals,
        kind=kind or settings.ablation,
        heads=heads,
        replace=settings.replace,
        context_indices=views["at_indices"],
        seed=settings.seed,
        progress=False,
        **views,
        **_batches(settings),
    )
    return ablated.dataset


def _views(settings: TableSettings) -> dict[str, Any]:
    return {"at_indices": settings.context_indices, "window": settings.window}


def _batches(settings: TableSettings) -> dict[str, Any]:
    return {} if settings.batch_size is None else {"batch_size": settings.batch_size}


def _losses_form(cfg: Any, evals: EvalSet, settings: TableSettings) -> Form:  # noqa: ARG001 the same of all models
    every = np.arange(1, evals.n_pos)
    return _form_of_losses({}, evals, settings, every, {"window": settings.window})


def _head_scores_form(cfg: Any, evals: EvalSet, settings: TableSettings) -> Form:  # noqa: ARG001 of heads alone
    numbers = {name: Numbers(("layer", "head"), attrs=about) for name, about in default_measures().items()}
    return Form(numbers, labels_of(**_grid(cfg)), {"seed": settings.seed})


def _ablation_form(
    cfg: Any,
    evals: EvalSet,
    settings: TableSettings,
    *,
    kind: str | None = None,
    heads: Sequence[Sequence[str]] | None = None,
) -> Form:
    leading = _grid(cfg) if heads is None else {"group": ("group", ["+".join(group) for group in heads])}
    about = {"kind": kind or settings.ablation, "replace": settings.replace, "window": settings.window}
    return _form_of_losses(leading, evals, settings, settings.context_indices, about)


def _grid(cfg: Any) -> dict[str, tuple[str, Any]]:
    return {"layer": ("layer", range(cfg.n_layers)), "head": ("head", range(cfg.n_heads))}


def _form_of_losses(
    leading: Mapping[str, tuple[str, Any]], evals: EvalSet, settings: TableSettings, by: Any, about: Mapping[str, Any]
) -> Form:
    """The views of losses, after the leading dimensions."""
    views = {
        "random_token": ("example",),
        "by_context_index": ("context_index",),
        "at_indices": ("example", "at_index"),
    }
    labels = labels_of(
        **leading,
        context_index=("context_index", by),
        at_index=("at_index", settings.context_indices),
        random_index=("example", evals.random_index.numpy()),
    )
    numbers = {name: Numbers((*leading, *own), finite=True) for name, own in views.items()}
    return Form(numbers, labels, {"fingerprint": evals.fingerprint, **about})


def _head_score_parameters(settings: TableSettings) -> dict[str, Any]:
    return {"seed": settings.seed, "n_text_examples": settings.n_text_examples}


def _ablation_parameters(settings: TableSettings) -> dict[str, Any]:
    chosen = {"kind": settings.ablation, "replace": settings.replace, **_views(settings)}
    return {**chosen, "seed": settings.seed} if settings.replace == "resample" else chosen


MEASUREMENTS: dict[str, Measurement] = {
    "losses": Measurement(2, measure_losses, _views, _losses_form),
    "head_scores": Measurement(2, measure_head_scores, _head_score_parameters, _head_scores_form),
    "ablation": Measurement(2, measure_ablation, _ablation_parameters, _ablation_form, sweeps_heads=True),
}
"""What rows may name in `needs`; a new one is a function, the form of what it stores, and a line."""
