"""How strongly every head shows behaviours of the paper's Argument 4, beside what it does where there is nothing."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.head_spread import HeadSpread
from ih_lens.measure.attention import attention_window, forward_used
from ih_lens.measure.attribution import attribution_obstacle
from ih_lens.measure.behaviours import BEHAVIOURS
from ih_lens.measure.behaviours._base import TARGETS, Behaviour, BehaviourText, BehaviourTexts
from ih_lens.measure.behaviours.reading import ATTRIBUTION, ATTRIBUTION_ANYWHERE, Found, padded_tokens, read_texts
from ih_lens.measure.head_evaluators._base import layers_named
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import require_causal
from ih_lens.progress import progress_bar
from ih_lens.results import HeadScores
from ih_lens.types import ModelLike
from ih_lens.validate import finite_weights, one_of

BASELINE, EXCESS = "baseline", "excess"
_ATTENTION = (0.0, 1.0)
_DIFFERENCE = (-1.0, 1.0)
_LOGITS = (
    "logit attribution onto the token that comes next, mean over the same destinations: what the head adds to its "
    "logit "
)
_RIVALS = (
    "logit attribution onto the right label against the mean of the other three, mean over the same destinations: what "
    "the head adds to the difference of their logits "
)


def score_behaviours(
    model: ModelLike,
    *,
    behaviours: Sequence[str | Behaviour] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    keep_examples: bool = True,
    progress: bool = True,
) -> HeadScores:
    """Score every head on literal copying, translation and pattern matching (paper, Argument 4).

    Args:
        model: any HookedTransformer with a tokenizer.
        behaviours: by name or as objects with parameters of their own, such as
            `Translation(pairs="pairs.tsv")`; all of `BEHAVIOURS` by default, on texts made for the project.
        seed: of all that is random in the examples.
        batch_size: examples per run of the model; the result does not depend on it.
        keep_examples: keep what each example gave, for bootstrap intervals.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        For each behaviour NAME the measures NAME (attention to the targets, 0 to 1), NAME_baseline (the same where
        nothing relates the text to them), NAME_excess (their difference on each example), NAME_attribution with
        NAME_attribution_baseline and NAME_attribution_excess (logits that come from the targets),
        NAME_attribution_anywhere (from all sources) and further ones; the attributes of each say its definition. All
        have their spread over examples: `scores.p_value("translation_excess", null=0.0)`.

    Raises:
        CapabilityError: if the model has no tokenizer, does not predict each token from those before it, or its
            context is too short for any example.
        InputError: if arguments, texts or weights cannot be used.

    Examples:
        >>> scores = score_behaviours(model)
        >>> scores.top("pattern_matching_excess", 3)
    """
    require_causal(model)
    finite_weights(model)
    chosen = _chosen(behaviours)
    made = {behaviour.name: behaviour.texts(model, seed=seed) for behaviour in chosen}
    scores: dict[str, Tensor] = {}
    examples: dict[str, Tensor | str] = {}
    attributes: dict[str, dict[str, Any]] = {}
    with progress_bar("behaviours", total=len(chosen), show=progress) as done:
        for place, behaviour in enumerate(chosen):
            measured = _measure(model, behaviour, made[behaviour.name], batch_size)
            for name, (values, about) in measured.items():
                scores[name] = _mean(values)
                examples[name] = values
                attributes[name] = about
            done(place + 1)
    parameters = {behaviour.name: behaviour.parameters for behaviour in chosen}
    origin = provenance(model, seed=seed, behaviours=parameters, forward=forward_used(model))
    spread = HeadSpread.from_tensors(examples, model.cfg.n_layers, model.cfg.n_heads, keep_examples=keep_examples)
    return HeadScores.from_tensors(scores, provenance=origin, attributes=attributes, spread=spread)


def _chosen(behaviours: Sequence[str | Behaviour] | None) -> list[Behaviour]:
    chosen: list[Behaviour] = []
    for asked in BEHAVIOURS if behaviours is None else behaviours:
        known = isinstance(asked, Behaviour)
        chosen.append(asked if known else BEHAVIOURS[one_of("behaviours", str(asked), list(BEHAVIOURS))])
    names = [behaviour.name for behaviour in chosen]
    if not names or len(set(names)) < len(names):
        raise InputError(f"behaviours: expected at least one, each once, got {', '.join(names) or 'none'}")
    return chosen


def _measure(
    model: ModelLike, behaviour: Behaviour, made: BehaviourTexts, batch_size: int | None
) -> dict[str, tuple[Float[Tensor, "example layer head_index"], dict[str, Any]]]:
    """Each measure of one behaviour: what every example gave, and its attributes."""
    obstacle = attribution_obstacle(model, padded_tokens(model, made.texts))
    found = read_texts(model, made.texts, attributed=obstacle is None, batch_size=batch_size)
    control = read_texts(model, made.controls, attributed=obstacle is None, batch_size=batch_size)
    measures = {**_with_baseline("", TARGETS, found, control), **_attributions(found, control)}
    measures |= {f"_{name}": values for name, values in found.items() if name in behaviour.details}
    measures |= {f"_{name}": values for name, values in behaviour.derived(found).items()}
    out_of_reach = _out_of_reach(model, made.texts)
    labelled: dict[str, tuple[Tensor, dict[str, Any]]] = {}
    for name, values in measures.items():
        about: dict[str, Any] = {**_about(behaviour, name.removeprefix("_"), made), **made.description}
        if name.startswith(f"_{ATTRIBUTION}") and obstacle is not None:
            about["undefined"] = obstacle
        elif out_of_reach:
            values[:, out_of_reach] = torch.nan
            about["undefined"] = f"{layers_named(out_of_reach)}: local attention does not reach back to any target"
        elif bool(values.isnan().all()):
            about["undefined"] = "none of the examples has a place to look at"
        labelled[f"{behaviour.name}{name}"] = (values, about)
    return labelled


def _with_baseline(prefix: str, reading: str, found: Found, control: Found) -> Found:
    """A reading, the same of the controls, and what it is above them, example by example."""
    return {
        prefix: found[reading],
        f"{prefix}_{BASELINE}": control[reading],
        f"{prefix}_{EXCESS}": found[reading] - control[reading],
    }


def _attributions(found: Found, control: Found) -> Found:
    """Attributions with their baseline, NaN where there are none."""
    if ATTRIBUTION not in found:
        nothing = {name: torch.full_like(found[TARGETS], torch.nan) for name in (ATTRIBUTION, ATTRIBUTION_ANYWHERE)}
        found, control = nothing, nothing
    return {
        **_with_baseline(f"_{ATTRIBUTION}", ATTRIBUTION, found, control),
        f"_{ATTRIBUTION_ANYWHERE}": found[ATTRIBUTION_ANYWHERE],
    }


def _about(behaviour: Behaviour, name: str, made: BehaviourTexts) -> dict[str, Any]:
    """Definition and range of a measure."""
    logits = _RIVALS if any(text.rivals for text in made.texts) else _LOGITS
    known = {
        "": (behaviour.definition, _ATTENTION),
        BASELINE: (f"the same on {behaviour.control}", _ATTENTION),
        EXCESS: (f"what it is above the same on {behaviour.control}, example by example", _DIFFERENCE),
        ATTRIBUTION: (f"{logits}from the targets", None),
        f"{ATTRIBUTION}_{BASELINE}": (f"{logits}from the same places of {behaviour.control}", None),
        f"{ATTRIBUTION}_{EXCESS}": (f"{logits}from the targets, above that on {behaviour.control}", None),
        ATTRIBUTION_ANYWHERE: (f"{logits}from all sources", None),
        **{detail: (definition, _ATTENTION) for detail, definition in behaviour.details.items()},
    }
    definition, limits = known[name]
    return (
        {"definition": definition, "unit": "logits"} if limits is None else {"definition": definition, "range": limits}
    )


def _out_of_reach(model: ModelLike, texts: Sequence[BehaviourText]) -> list[int]:
    """Layers of local attention that see none of the targets."""
    distances = [query - key for text in texts for query, key, _ in text.readings[TARGETS]]
    windows = [attention_window(model, layer) for layer in range(model.cfg.n_layers)]
    return [layer for layer, window in enumerate(windows) if window is not None and min(distances) >= window]


def _mean(values: Float[Tensor, "example layer head_index"]) -> Float[Tensor, "layer head_index"]:
    """Over the examples that say something; NaN where some of these are NaN."""
    defined = ~values.isnan().flatten(1).all(dim=1)
    return values[defined].mean(dim=0) if bool(defined.any()) else torch.full_like(values[0], torch.nan)
