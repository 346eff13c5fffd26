"""Scores of heads where there is nothing to find: random weights, or targets in the wrong places."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.start_tokens import start_token
from ih_lens.errors import CapabilityError
from ih_lens.estimates import NullScores
from ih_lens.measure.attention import measurable_tokens, measure_attention
from ih_lens.measure.head_evaluators._base import HeadEvaluator
from ih_lens.measure.provenance import provenance
from ih_lens.measure.score_heads import chosen_evaluators, score_heads, sharing_evaluator
from ih_lens.models.random_weights import RANDOM_WEIGHTS, models_with_random_weights
from ih_lens.progress import with_progress
from ih_lens.results import HeadScores, json_safe
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, one_of

SHUFFLED_TOKENS = "shuffled_tokens"
NULLS = (*RANDOM_WEIGHTS, SHUFFLED_TOKENS)
_WEIGHTS = "read off the weights, which other tokens leave as they are; use kind='random_weights'"
_BY_POSITION = "its targets are given by position, which other tokens leave as they are; use kind='random_weights'"
_OWN_WAY = "this evaluator scores in a way of its own, from the tokens that it looks for targets in"


def null_scores(
    model: ModelLike,
    *,
    kind: str = "random_weights",
    n_draws: int = 20,
    seed: int = 0,
    text: Tensor | EvalSet | None = None,
    evaluators: Sequence[str | HeadEvaluator] | None = None,
    n_examples: int = 10,
    length: int = 25,
    repeats: int = 4,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
    progress: bool = True,
) -> NullScores:
    """The distribution of every score by chance, to compare a model's own scores with.

    Each draw also has random tokens of its own. The arguments from `text` to `batch_size` are those of `score_heads`
    and should be the ones that the scores to be compared were measured with.

    Args:
        model: the model whose scores are to be judged; it is left as it is.
        kind: "random_weights": the same architecture with weights as they are initialised; "same_norm_weights": each
            matrix normally distributed with the mean square that it has in the model, so that attention is as sharp;
            "shuffled_tokens": the model itself reads the tokens of each example in random order, and is scored as if
            they stood where they were. The last tells a head that follows tokens from one that follows positions.
        n_draws: how many times every head is drawn. The smallest p-value is 1 / (1 + n_draws times the heads that are
            pooled).
        seed: of the draws; draw d has the seed + d.
        text: examples for previous-token attention.
        evaluators: which head evaluators.
        n_examples: random examples per draw.
        length: distinct random tokens per example.
        repeats: how often they are repeated.
        bos: start token.
        batch_size: examples per run of the model.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        The scores of every draw, [draw, layer, head] per measure. "shuffled_tokens" has no null for measures of
        weights and for previous-token attention: they are NaN, with the reason in `undefined`.

    Raises:
        CapabilityError: for random weights of a model that is no `HookedTransformer`.
        InputError: if arguments cannot be used.

    Examples:
        >>> null = null_scores(model, kind="shuffled_tokens", n_draws=20)
        >>> score_heads(model).p_value("prefix_matching", null, pool="head")
    """
    one_of("kind", kind, NULLS)
    seeds = range(seed, seed + at_least("n_draws", n_draws, 1))
    settings = {"n_examples": n_examples, "length": length, "repeats": repeats, "bos": bos}
    if kind == SHUFFLED_TOKENS:
        chosen = chosen_evaluators(evaluators, settings)
        tokens = text.tokens if isinstance(text, EvalSet) else text
        draws = (_shuffled(model, chosen, draw, tokens, batch_size) for draw in seeds)
    else:
        options = {**settings, "text": text, "evaluators": evaluators, "batch_size": batch_size}
        draws = _random_weights(model, kind, seeds, options)
    drawn = list(with_progress(draws, f"null distribution: {n_draws} draws", total=n_draws, show=progress))
    joined = xr.concat([scores.dataset for scores in drawn], dim="draw", combine_attrs="drop_conflicts")
    origin = provenance(model, kind=kind, n_draws=n_draws, seed=seed)
    return NullScores(joined.assign_attrs(json_safe(origin)))


def _random_weights(model: ModelLike, kind: str, seeds: range, options: Mapping[str, Any]) -> Iterator[HeadScores]:
    """Scores of models that know nothing."""
    for seed, changed in zip(seeds, models_with_random_weights(model, kind, seeds), strict=True):
        yield score_heads(changed, seed=seed, keep_examples=False, **options)


def _shuffled(
    model: ModelLike,
    evaluators: Sequence[HeadEvaluator],
    seed: int,
    text: Int[Tensor, "example pos"] | None,
    batch_size: int | None,
) -> HeadScores:
    """Scores of one draw with tokens in random order and targets where they were."""
    nothing = torch.full((model.cfg.n_layers, model.cfg.n_heads), torch.nan, device="cpu")
    scores: dict[str, Tensor] = {}
    attributes: dict[str, dict[str, object]] = {}
    for evaluator in evaluators:
        attributes[evaluator.name] = {"definition": evaluator.defined(), "range": evaluator.range}
        found = _shuffled_score(model, evaluator, seed, text, batch_size)
        if isinstance(found, str):
            attributes[evaluator.name]["undefined"], found = found, nothing
        scores[evaluator.name] = found
    for name in ("ov_copying_eigenvalues", "qk_eigenvalue_trace"):
        scores[name], attributes[name] = nothing, {"undefined": _WEIGHTS}
    return HeadScores.from_tensors(scores, attributes=attributes)


def _shuffled_score(
    model: ModelLike,
    evaluator: HeadEvaluator,
    seed: int,
    text: Int[Tensor, "example pos"] | None,
    batch_size: int | None,
) -> Tensor | str:
    """One evaluator's scores, or why there are none."""
    if not evaluator.follows_tokens:
        return _BY_POSITION
    fitted = sharing_evaluator(evaluator.fitted(model))
    if fitted is None:
        return _OWN_WAY
    tokens = measurable_tokens(model, fitted.tokens(model, seed=seed, text=text))
    try:
        reduction = fitted.reduction(model, tokens)
    except CapabilityError as reason:
        return str(reason)
    has_start = start_token(model, fitted.parameters.get("bos")) is not None
    shuffled = in_random_order(tokens, seed, n_start=int(has_start))
    return measure_attention(model, shuffled, [reduction], batch_size=batch_size)[0]


def in_random_order(tokens: Int[Tensor, "example pos"], seed: int, *, n_start: int) -> Int[Tensor, "example pos"]:
    """Each example's tokens in an order of its own; `n_start` of them stay in front."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(tokens[:, n_start:].shape, generator=generator, device="cpu").argsort(dim=1)
    return torch.cat([tokens[:, :n_start], tokens[:, n_start:].gather(1, order)], dim=1)
