"""The measures that are checked, and how far each may lie from its number in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_lens.analysis.in_context_learning import attribution_to_in_context_learning, in_context_learning_score
from ih_lens.data.eval_set import EvalSet
from ih_lens.data.random_tokens import repeated_random_tokens
from ih_lens.measure.ablate_heads import ablate_heads
from ih_lens.measure.attribution import logit_attribution
from ih_lens.measure.composition import composition_scores
from ih_lens.measure.head_evaluators import EVALUATORS
from ih_lens.measure.head_output_norms import head_output_norms
from ih_lens.measure.score_heads import score_heads
from ih_lens.measure.token_losses import token_losses
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.results import AblationLosses, HeadScores, TokenLosses

_KINDS = (
    "best_offset_attention",
    "duplicate_token",
    "anti_induction",
    "nearest_copy",
    "farthest_copy",
    "two_token_prefix",
    "three_token_prefix",
    "four_token_prefix",
)
"""The kinds of induction that need no words."""
_INDICES: dict[str, Any] = {"early": 5, "late": 40, "window": 2}
_LOSSES: dict[str, Any] = {"at_indices": (5, 40), "window": 2, "progress": False}


@dataclass(frozen=True)
class MeasuredReference:
    """A reference model, and what several measures are read from; measured when first asked for."""

    model: HookedTransformer
    evals: EvalSet

    @cached_property
    def scores(self) -> HeadScores:
        """Every head evaluator."""
        return score_heads(self.model, seed=0, text=self.evals.tokens, evaluators=[*EVALUATORS, *_KINDS])

    @cached_property
    def losses(self) -> TokenLosses:
        """Without ablation."""
        return token_losses(self.model, self.evals, **_LOSSES)

    def ablated(self, kind: str, replace: str) -> AblationLosses:
        """Every head by itself."""
        return ablate_heads(self.model, self.evals, kind=kind, replace=replace, context_indices="all", **_LOSSES)


@dataclass(frozen=True)
class ReferenceMeasure:
    """One measure of the check.

    Attributes:
        tolerance: largest difference in float32, as a share of the largest expected number, or absolute where that
            is below 1; 0 where numbers are exact.
        numbers: what is compared.
    """

    tolerance: float
    numbers: Callable[[MeasuredReference], Any]

    def of(self, measured: MeasuredReference) -> NDArray[np.float64]:
        """The measure of a model, as a flat array."""
        return np.asarray(self.numbers(measured), dtype=np.float64).ravel()


def _score(name: str) -> Callable[[MeasuredReference], Any]:
    return lambda measured: measured.scores[name]


def _ablation(kind: str, replace: str) -> Callable[[MeasuredReference], Any]:
    def numbers(measured: MeasuredReference) -> Any:
        ablated = measured.ablated(kind, replace)
        effect = attribution_to_in_context_learning(ablated, measured.losses, **_INDICES)
        return np.concatenate([ablated.by_context_index.mean("context_index"), effect], axis=None)

    return numbers


def _composition(kind: str) -> Callable[[MeasuredReference], Any]:
    return lambda measured: composition_scores(measured.model, kind)


EXACT, SCORE, LOSS, EIGENVALUES = 0.0, 2e-6, 5e-6, 1e-5
"""About ten times the largest difference that was seen between sets of instructions; docs/reproducing.md has each."""
MEASURES: dict[str, ReferenceMeasure] = {
    "random tokens": ReferenceMeasure(EXACT, lambda found: repeated_random_tokens(found.model, n_examples=3, seed=0)),
    "random context indices": ReferenceMeasure(EXACT, lambda found: found.evals.random_index),
    **{name: ReferenceMeasure(SCORE, _score(name)) for name in (*EVALUATORS, *_KINDS)},
    "ov_copying_eigenvalues": ReferenceMeasure(EIGENVALUES, _score("ov_copying_eigenvalues")),
    "qk_eigenvalue_trace": ReferenceMeasure(EIGENVALUES, _score("qk_eigenvalue_trace")),
    **{f"{kind}-composition": ReferenceMeasure(SCORE, _composition(kind)) for kind in ("q", "k", "v")},
    "head output norms": ReferenceMeasure(SCORE, lambda found: head_output_norms(found.model, found.evals)),
    "losses at the random token": ReferenceMeasure(LOSS, lambda found: found.losses.random_token),
    "losses by context index": ReferenceMeasure(LOSS, lambda found: found.losses.by_context_index),
    "in-context learning score": ReferenceMeasure(
        LOSS, lambda found: in_context_learning_score(found.losses, **_INDICES)
    ),
    **{
        f"{kind} ablation, {replace}": ReferenceMeasure(LOSS, _ablation(kind, replace))
        for kind in ("pattern_preserving", "full")
        for replace in ("zero", "mean", "resample")
    },
    "logit attribution": ReferenceMeasure(
        SCORE, lambda found: logit_attribution(found.model, found.evals.tokens).sum(dim=(0, 4)).mean(dim=-1)
    ),
}
"""By the name that is printed."""
