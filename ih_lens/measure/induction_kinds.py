"""One table of all kinds of induction for a model's heads."""

from collections.abc import Sequence

import xarray as xr
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.random_tokens import repeated_random_tokens
from ih_lens.errors import CapabilityError
from ih_lens.head_spread import HeadSpread
from ih_lens.measure.copy_suppression import copy_suppression, no_copy_suppression
from ih_lens.measure.head_evaluators import EVALUATORS, INDUCTION_KINDS
from ih_lens.measure.head_evaluators._base import fitting_length
from ih_lens.measure.score_heads import score_heads
from ih_lens.results import HeadScores
from ih_lens.types import ModelLike


def induction_kinds(
    model: ModelLike,
    *,
    seed: int = 0,
    text: Tensor | EvalSet | None = None,
    n_examples: int = 10,
    length: int = 25,
    repeats: int = 4,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
    keep_examples: bool = True,
) -> HeadScores:
    """Every head on every kind of induction: `score_heads` with all of `INDUCTION_KINDS`, and `copy_suppression`.

    Beside the paper's scores: where a head looks (`best_offset`, `best_offset_attention`, `duplicate_token`,
    `anti_induction`), which of several copies (`nearest_copy`, `farthest_copy`), how long a prefix it matches
    (`two_token_prefix`, `three_token_prefix`, `four_token_prefix`), whether tokens or whole entities
    (`token_induction`, `concept_induction`) and other forms of a word (`fuzzy_match`), and whether it suppresses what
    is predicted (`attention_to_predicted`, `copy_suppression`, `ov_suppression`). An anti-copying prefix-matching head
    is what `head_types` says of the result. Arguments are those of `score_heads`.

    Returns:
        One variable per measure, each with its definition and range; NaN, with the reason in the attribute `undefined`,
        where the model does not allow a measure, as for `fuzzy_match` without a tokenizer.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if arguments or weights cannot be used, or context or vocabulary are too small.

    Examples:
        >>> kinds = induction_kinds(model)
        >>> kinds.top("duplicate_token", 3)
        >>> kinds.head("L5H1")["two_token_prefix"]
    """
    scores = score_heads(
        model,
        seed=seed,
        text=text,
        evaluators=[*EVALUATORS, *INDUCTION_KINDS],
        n_examples=n_examples,
        length=length,
        repeats=repeats,
        bos=bos,
        batch_size=batch_size,
        keep_examples=keep_examples,
    )
    tokens = repeated_random_tokens(
        model,
        length=fitting_length(model, length, repeats, bos),
        repeats=repeats,
        n_examples=n_examples,
        seed=seed,
        bos=bos,
    )
    try:
        suppression = copy_suppression(model, tokens, seed=seed, batch_size=batch_size, keep_examples=keep_examples)
    except CapabilityError as reason:
        suppression = no_copy_suppression(model, str(reason))
    return _together([scores, suppression])


def _together(parts: Sequence[HeadScores]) -> HeadScores:
    """Measures of one model side by side, under the provenance of the first."""
    merged = xr.merge([part.dataset for part in parts], combine_attrs="override")
    spreads = [part.spread for part in parts if part.spread is not None]
    stderr = xr.merge([spread.stderr for spread in spreads])
    examples = xr.merge([spread.examples for spread in spreads])
    return HeadScores(merged, HeadSpread(stderr, examples))
