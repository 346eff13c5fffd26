"""All head measures of one model at once, labelled and with their origin."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.random_tokens import token_pool
from ih_lens.data.start_tokens import choose_start_token
from ih_lens.errors import CapabilityError, InputError
from ih_lens.head_spread import WITHOUT_EXAMPLES, HeadSpread
from ih_lens.measure.attention import (
    AttentionReduction,
    Measured,
    fitting_tokens,
    forward_used,
    measure_examples,
)
from ih_lens.measure.circuits import ov_copying_eigenvalue_score, qk_eigenvalue_trace
from ih_lens.measure.head_evaluators import EVALUATORS, INDUCTION_KINDS, PreviousTokenEvaluator
from ih_lens.measure.head_evaluators._base import AttentionEvaluator, HeadEvaluator
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import differing_vocabularies, require_causal
from ih_lens.models.smeared_keys import has_smeared_keys
from ih_lens.results import HeadScores, json_safe
from ih_lens.types import ModelLike
from ih_lens.validate import finite_weights, one_of

_Found = TypeVar("_Found")
_Outcome = Tensor | Measured | CapabilityError
_WITHOUT_SPREAD = "this evaluator does not tell each example's own score"
_OV_EIGENVALUES: dict[str, Any] = {
    "definition": "sum of real parts over sum of moduli of the eigenvalues of W_E W_V W_O W_U, effective weights",
    "range": (-1.0, 1.0),
}
_QK_TRACE: dict[str, Any] = {
    "definition": "trace of the sum over earlier heads k of p_k W_E W_Q W_K^T (W_V^k W_O^k)^T W_E^T, p_k the "
    "previous-token score of k; effective weights; not defined in layer 0",
}


def score_heads(
    model: ModelLike,
    *,
    seed: int = 0,
    text: Tensor | EvalSet | None = None,
    evaluators: Sequence[str | HeadEvaluator] | None = None,
    n_examples: int = 10,
    length: int = 25,
    repeats: int = 4,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
    keep_examples: bool = True,
) -> HeadScores:
    """Score every head: prefix matching, copying, previous token, OV copying eigenvalues, QK-eigenvalue trace.

    Args:
        model: any HookedTransformer.
        seed: of the random tokens.
        text: examples of the training distribution, for previous-token attention: ids [example, pos], or what
            `text_examples` makes; without them it is measured on the repeated random tokens, and its attributes
            say so.
        evaluators: head evaluators by name or as objects with parameters of their own, such as
            `PrefixMatchingEvaluator(length=10)`; all of `EVALUATORS` by default, those of `INDUCTION_KINDS` where they
            are named. Eigenvalues are always measured; the trace among them needs the evaluator "previous_token".
        n_examples: random examples.
        length: distinct random tokens per example, fewer where the context is too short for them; the attributes
            tell the length that was used.
        repeats: how often they are repeated, for prefix matching.
        bos: start token for prefix matching: "auto" for the tokenizer's, an id, or None; prepended once, whatever
            TransformerLens does with texts by default. Copying has none, as in the paper.
        batch_size: examples per run of the model; the result does not depend on it.
        keep_examples: keep what each example gave, for bootstrap intervals; standard errors are always kept.

    Returns:
        One variable per measure with its spread over examples (`.stderr(name)`, `.confidence_interval(name)`,
        `.p_value(name, null)`; measures of weights have none), each with definition, range and
        parameters in its attributes: the start token and why it was chosen (`bos`, `bos_text`, `bos_chosen`), what the
        most and the least common tokens were known from (`commonness`) and how many tokens were left to draw from.
        Where the model does not allow a measure, for all heads or for some, it is NaN, with the reason in the attribute
        `undefined`.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if arguments or weights cannot be used, or the vocabulary is too small for the random tokens.

    Examples:
        >>> scores = score_heads(model, seed=0)
        >>> scores.top("prefix_matching", 3)
    """
    require_causal(model)
    finite_weights(model)
    text_description = text.description if isinstance(text, EvalSet) else None
    text = text.tokens if isinstance(text, EvalSet) else text
    text = None if text is None else fitting_tokens(model, text, min_length=2)
    settings = {"n_examples": n_examples, "length": length, "repeats": repeats, "bos": bos}
    kept = _Kept(model.cfg.n_layers, model.cfg.n_heads)
    fitting = [(evaluator, evaluator.fitted(model)) for evaluator in chosen_evaluators(evaluators, settings)]
    outcomes = _evaluate(model, [fitted for _, fitted in fitting], seed, text, batch_size)
    for (evaluator, fitted), (outcome, reason) in zip(fitting, outcomes, strict=True):
        kept.add(evaluator.name, _description(evaluator, fitted, model, text), outcome, reason)
    _add_eigenvalues(kept, model)
    origin = provenance(
        model,
        seed=seed,
        text_fingerprint=_fingerprint(text),
        text=text_description,
        evaluators={fitted.name: fitted.parameters for _, fitted in fitting},
        forward=forward_used(model),
    )
    spread = HeadSpread.from_tensors(kept.examples, *kept.shape, keep_examples=keep_examples)
    return HeadScores.from_tensors(kept.scores, provenance=origin, attributes=kept.attributes, spread=spread)


def default_measures() -> dict[str, dict[str, Any]]:
    """What `score_heads` measures by default: names, each with its range, if it has one, as its attributes tell it."""
    ranges = {name: {"range": evaluator.range} for name, evaluator in EVALUATORS.items()}
    return {
        **{name: json_safe(found) for name, found in ranges.items()},
        "ov_copying_eigenvalues": json_safe({"range": _OV_EIGENVALUES["range"]}),
        "qk_eigenvalue_trace": {},
    }


def chosen_evaluators(
    evaluators: Sequence[str | HeadEvaluator] | None, settings: Mapping[str, Any]
) -> list[HeadEvaluator]:
    """The evaluators asked for; those that were not given as objects follow the settings."""
    known = {**EVALUATORS, **INDUCTION_KINDS}
    chosen: list[HeadEvaluator] = []
    for asked in EVALUATORS if evaluators is None else evaluators:
        if isinstance(asked, HeadEvaluator):
            chosen.append(asked)
        else:
            chosen.append(known[one_of("evaluators", asked, list(known))].configured(**settings))
    names = [evaluator.name for evaluator in chosen]
    if len(set(names)) < len(names):
        raise InputError(f"evaluators: each may be given once, got {', '.join(names)}")
    return chosen


class _Kept:
    """What was measured so far: scores, each example's own (or why there are none), and attributes by name."""

    def __init__(self, n_layers: int, n_heads: int) -> None:
        self.shape = (n_layers, n_heads)
        self.scores: dict[str, Tensor] = {}
        self.examples: dict[str, Tensor | str] = {}
        self.attributes: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str,
        description: dict[str, Any],
        outcome: _Outcome,
        undefined: str | None = None,
        without_examples: str = _WITHOUT_SPREAD,
    ) -> None:
        """Keep a measure; one that the model does not allow is NaN, with the reason."""
        if isinstance(outcome, CapabilityError):
            undefined = without_examples = str(outcome)
            outcome = torch.full(self.shape, torch.nan, device="cpu")
        measured = outcome if isinstance(outcome, Measured) else Measured(outcome, None)
        self.attributes[name] = description if undefined is None else {**description, "undefined": undefined}
        self.scores[name] = measured.scores
        self.examples[name] = without_examples if measured.examples is None else measured.examples


def _add_eigenvalues(kept: _Kept, model: ModelLike) -> None:
    """The measures of weights; the trace among them is weighted with previous-token scores."""
    eigenvalues = _attempt(partial(ov_copying_eigenvalue_score, model))
    undefined = differing_vocabularies(model, "copying")
    kept.add("ov_copying_eigenvalues", _OV_EIGENVALUES, eigenvalues, undefined, WITHOUT_EXAMPLES)
    if PreviousTokenEvaluator.name in kept.scores:
        trace = _attempt(partial(qk_eigenvalue_trace, model, kept.scores[PreviousTokenEvaluator.name]))
        description = {**_QK_TRACE, "note": _left_out_of_trace(model)}
        kept.add("qk_eigenvalue_trace", description, trace, without_examples=WITHOUT_EXAMPLES)


def _attempt(get: Callable[[], _Found]) -> _Found | CapabilityError:
    """What was asked for, or why the model does not allow it."""
    try:
        return get()
    except CapabilityError as reason:
        return reason


def _evaluate(
    model: ModelLike,
    evaluators: Sequence[HeadEvaluator],
    seed: int,
    text: Int[Tensor, "example pos"] | None,
    batch_size: int | None,
) -> list[tuple[_Outcome, str | None]]:
    """Each evaluator's scores, or why there are none, and why some of them are NaN.

    Evaluators that need nothing but attention share one run per set of tokens.
    """
    outcomes: dict[int, _Outcome] = {}
    reasons: list[str | None] = []
    runs: list[tuple[Tensor, dict[int, AttentionReduction]]] = []
    for place, evaluator in enumerate(evaluators):
        tokens = _attempt(partial(_examples, model, evaluator, seed, text))
        if isinstance(tokens, CapabilityError):
            reasons.append(None)
            outcomes[place] = tokens
            continue
        reasons.append(evaluator.undefined(model, tokens))
        sharing = sharing_evaluator(evaluator)
        if sharing is None:
            outcomes[place] = _attempt(partial(evaluator.score, model, tokens, batch_size=batch_size))
            continue
        reduction = _attempt(partial(sharing.reduction, model, tokens))
        if isinstance(reduction, CapabilityError):
            outcomes[place] = reduction
            continue
        run = next((shared for known, shared in runs if torch.equal(known, tokens)), None)
        if run is None:
            runs.append((tokens, run := {}))
        run[place] = reduction
    for tokens, shared in runs:
        measured = measure_examples(model, tokens, list(shared.values()), batch_size=batch_size)
        outcomes.update(zip(shared, measured, strict=True))
    return [(outcomes[place], reason) for place, reason in enumerate(reasons)]


def _examples(
    model: ModelLike, evaluator: HeadEvaluator, seed: int, text: Int[Tensor, "text_example text_pos"] | None
) -> Int[Tensor, "example pos"]:
    """What one evaluator measures on."""
    return fitting_tokens(model, evaluator.tokens(model, seed=seed, text=text))


def sharing_evaluator(evaluator: HeadEvaluator) -> AttentionEvaluator | None:
    """The evaluator if its scores are those of its reduction; one that scores in its own way is left to do so."""
    if isinstance(evaluator, AttentionEvaluator) and type(evaluator).score is AttentionEvaluator.score:
        return evaluator
    return None


def _description(
    asked: HeadEvaluator, fitted: HeadEvaluator, model: ModelLike, text: Int[Tensor, "example pos"] | None
) -> dict[str, Any]:
    """Definition, range and parameters of one evaluator, and what it was measured on."""
    description: dict[str, Any] = {"definition": asked.defined(), "range": asked.range}
    if asked.uses_text and text is not None:
        return {**description, "measured_on": "text", "n_examples": len(text)}
    bos = asked.parameters.get("bos")
    drawn = token_pool(model, bos).description
    parameters = {**fitted.parameters, **choose_start_token(model, bos).description, **drawn}
    changed = {
        f"{name}_asked": value
        for name, value in asked.parameters.items()
        if name != "bos" and value != fitted.parameters[name]
    }
    return {**description, "measured_on": "random tokens", **parameters, **changed}


def _left_out_of_trace(model: ModelLike) -> str | None:
    """What the model does to queries and keys that the trace does not see."""
    left_out = {
        "the rotation of queries and keys by position": model.cfg.positional_embedding_type == "rotary",
        "the smearing of keys": has_smeared_keys(model),
    }
    names = [name for name, present in left_out.items() if present]
    return f"defined without position; left out: {', '.join(names)}" if names else None


def _fingerprint(text: Int[Tensor, "example pos"] | None) -> str | None:
    """Which text previous-token attention was measured on."""
    return None if text is None else EvalSet.from_tokens(text).fingerprint
