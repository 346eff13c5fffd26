"""What is measured on a snapshot for the table: one entry of the store per measurement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from transformer_lens import HookedTransformer

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablation import ablate_heads
from ih_lens.measure.score_heads import score_heads
from ih_lens.measure.token_losses import token_losses
from ih_lens.report.settings import TableSettings


@dataclass(frozen=True)
class Measurement:
    """One measurement of a loaded model.

    Attributes:
        version: raised whenever the numbers change, so that older entries of a store are not taken for them.
        measure: from model, examples, settings and options to a labelled data set.
        parameters: the part of the settings that the numbers depend on, given the tokens per example.
        n_passes: how often the evaluation examples go through the model, given its number of heads and the options.
    """

    version: int
    measure: Callable[..., xr.Dataset]
    parameters: Callable[[TableSettings, int], Mapping[str, Any]]
    n_passes: Callable[[int, Mapping[str, Any]], int]


def measure_losses(model: HookedTransformer, evals: EvalSet, settings: TableSettings) -> xr.Dataset:
    """Per-token losses of the unablated model, in all views."""
    losses = token_losses(model, evals, progress=False, **_views(settings, evals.n_pos), **_batches(settings))
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
    views = _views(settings, evals.n_pos)
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


def _views(settings: TableSettings, n_pos: int) -> dict[str, Any]:
    return {"at_indices": settings.context_indices(n_pos), "window": settings.window}


def _batches(settings: TableSettings) -> dict[str, Any]:
    return {} if settings.batch_size is None else {"batch_size": settings.batch_size}


def _head_score_parameters(settings: TableSettings, n_pos: int) -> dict[str, Any]:
    return {"seed": settings.seed, "n_text_examples": settings.n_text_examples}


def _ablation_parameters(settings: TableSettings, n_pos: int) -> dict[str, Any]:
    chosen = {"kind": settings.ablation, "replace": settings.replace, **_views(settings, n_pos)}
    return {**chosen, "seed": settings.seed} if settings.replace == "resample" else chosen


MEASUREMENTS: dict[str, Measurement] = {
    "losses": Measurement(1, measure_losses, _views, lambda n_heads, options: 1),
    "head_scores": Measurement(1, measure_head_scores, _head_score_parameters, lambda n_heads, options: 0),
    "ablation": Measurement(
        1, measure_ablation, _ablation_parameters, lambda n_heads, options: 1 + len(options.get("heads", range(n_heads)))
    ),
}
"""What rows may name in `needs`; a new one is a function and a line."""
