"""What is asked of every model in both versions, one line per call, and the numbers in what comes back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

import ih_lens as ih

_TEXT = "one token after another, again and again: the old man told the cat what the dog thought of the mat. " * 2


def numbers_of(result: Any, name: str = "") -> dict[str, np.ndarray]:
    """All numbers of a result under names that say where they stood in it."""
    return dict(_numbers(result, name))


def _numbers(result: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(result, torch.Tensor):
        result = result.detach().cpu().numpy()
    if isinstance(result, xr.Dataset):
        yield from _all({**result.data_vars, **{key: result[key].variable for key in result.coords}}, name)
    elif isinstance(result, xr.DataArray):
        yield from _numbers(result.reset_coords(drop=True).variable, name)
        yield from _all({key: values.variable for key, values in result.coords.items()}, name)
    elif isinstance(result, xr.Variable):
        yield from _numbers(result.to_numpy(), name)
    elif isinstance(result, pd.DataFrame):
        yield from _all({str(column): result[column].to_numpy() for column in result}, name)
    elif isinstance(result, Mapping):
        yield from _all(result, name)
    elif is_dataclass(result):
        yield from _all({field.name: getattr(result, field.name) for field in fields(result)}, name)
    elif isinstance(result, Sequence) and not isinstance(result, str):
        yield from _all(dict(enumerate(result)), name)
    elif isinstance(result, float | np.ndarray) and np.asarray(result).dtype.kind in "fiub":
        yield name, np.asarray(result, dtype=np.float64)


def _all(parts: Mapping[Any, Any], name: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, part in parts.items():
        yield from _numbers(part, f"{name}/{key}")


def _evals(model: Any) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(ih.random_tokens(model, n_examples=4, length=40, seed=1), seed=0)


def _tokens(model: Any) -> torch.Tensor:
    return ih.repeated_random_tokens(model, n_examples=2, length=10, repeats=4, seed=3)


def _ablate(**how: str) -> Callable[[Any], Any]:
    return lambda model: ih.ablate_heads(model, _evals(model), progress=False, **how)


def _in_context_learning(model: Any) -> Any:
    losses = ih.token_losses(model, _evals(model), keep="all")
    return ih.in_context_learning_score(losses, early=4, late=39)


def _viewed(model: Any) -> Any:
    view = ih.induction_view(model, _TEXT)
    page = view.to_html()
    if "<script" not in page:
        raise ValueError("the page of the view is empty")
    heads = view.data.heads
    return {
        "patterns": torch.stack([view.data.pattern(head) for head in heads]),
        "attributions": torch.stack([view.data.attribution(head) for head in heads]),
        "scores": view.data.scores,
    }


def _explained(model: Any) -> Any:
    told = ih.explain_head(model, "L1H1")
    return {"terms": told.terms, "partners": told.to_dataframe()}


def _looped(model: Any) -> Any:
    return ih.generation_loops(model, _tokens(model)[:, :12], ["L1H1"], n_new=8, n_draws=2, progress=False)


def _clamped(model: Any) -> Any:
    with ih.clamp(model, [ih.ZeroHead("L1H1"), ih.PreviousToken("L0H2"), ih.Temperature("L1H0", temperature=2.0)]):
        return ih.token_losses(model, _evals(model), keep="all")


CALLS: dict[str, Callable[[Any], Any]] = {
    "score_heads": lambda model: ih.score_heads(model, length=10, text=_evals(model)).dataset,
    "prefix_matching_offset_scan": lambda model: ih.prefix_matching_offset_scan(model, _tokens(model)),
    "prefix_matching_by_period": ih.prefix_matching_by_period,
    "attention_by_distance": lambda model: ih.attention_by_distance(model, _tokens(model)),
    "attention_by_copy": lambda model: ih.attention_by_copy(model, _tokens(model)),
    "induction_kinds": lambda model: ih.induction_kinds(model).dataset,
    "induction_verdict": ih.induction_verdict,
    "copy_suppression": lambda model: ih.copy_suppression(model, _tokens(model)).dataset,
    "repetition_dominance": lambda model: ih.repetition_dominance(model, _tokens(model)),
    "null_scores, shuffled tokens": lambda model: ih.null_scores(
        model, kind="shuffled_tokens", n_draws=2, length=10, progress=False
    ),
    "null_scores, random weights": lambda model: ih.null_scores(model, n_draws=2, length=10, progress=False),
    "effective_weights": ih.effective_weights,
    "composition_scores": ih.composition_scores,
    "skip_trigrams": lambda model: ih.skip_trigrams(model, "L0H1"),
    "memory_recall": lambda model: ih.memory_recall(model, "L1H1", "L0H1"),
    "token_losses": lambda model: ih.token_losses(model, _evals(model), keep="all").dataset,
    "in_context_learning_score": _in_context_learning,
    "class_losses": lambda model: ih.class_losses(model, _evals(model)),
    "ablate_heads, full": lambda model: _ablate(kind="full")(model).dataset,
    "ablate_heads, pattern-preserving": lambda model: _ablate(kind="pattern_preserving")(model).dataset,
    "ablate_heads, mean": lambda model: _ablate(replace="mean")(model).dataset,
    "ablate_heads, resample": lambda model: _ablate(replace="resample")(model).dataset,
    "head_output_norms": lambda model: ih.head_output_norms(model, _evals(model)),
    "matched_ablations": lambda model: ih.matched_ablations(
        model, _evals(model), heads=["L1H1"], n_draws=2, progress=False
    ),
    "logit_attribution": lambda model: ih.logit_attribution(model, _tokens(model)),
    "logit_terms": lambda model: ih.logit_terms(model, _tokens(model)),
    "score_behaviours": lambda model: ih.score_behaviours(model, progress=False).dataset,
    "behaviour_table": lambda model: ih.behaviour_table(model, progress=False).scores.dataset,
    "induction_view": _viewed,
    "explain_head": _explained,
    "match_terms": lambda model: ih.match_terms(model, "L1H1", _tokens(model)),
    "path_effects": lambda model: ih.path_effects(model, "L1H1", _tokens(model)),
    "head_wiring": lambda model: ih.head_wiring(model, "L0H1", "L1H1", _evals(model)),
    "pointer_arithmetic": lambda model: ih.pointer_arithmetic(model, _tokens(model)),
    "generate_tokens": lambda model: ih.generate_tokens(model, _tokens(model)[:, :12], 8),
    "generation_loops": _looped,
    "clamp": _clamped,
}
"""By the name that the documentation gives them; `score_heads` has every evaluator."""
