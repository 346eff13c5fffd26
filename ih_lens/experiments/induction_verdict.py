"""Is this an induction model? Several periods, random distances, and a look at what positions alone would do."""

from collections.abc import Sequence
from typing import Any

from ih_lens.analysis.induction_verdict import LEAST_PERIODS, InductionVerdict, judge_induction
from ih_lens.errors import InputError
from ih_lens.measure.period_scores import drawn_periods, prefix_matching_by_period, suspected_periods
from ih_lens.types import ModelLike


def induction_verdict(
    model: ModelLike,
    periods: Sequence[int] | None = None,
    *,
    n_periods: int = 4,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
    threshold: float = 0.3,
    min_stderrs: float = 2.0,
    batch_size: int | None = None,
) -> InductionVerdict:
    """Whether a model has induction heads, and which, judged where no fixed distance gives the same attention.

    Prefix matching is measured on random sequences of several lengths, copied at random distances; an induction head
    must reach the threshold at each. Beside it on copies right after each other, at the same lengths and at those that
    a head would solve by always looking equally far back (found from its attention by distance): a head that matches
    only there is positional, and a model that has no other is no induction model however well it predicts repeats.

    Args:
        model: any HookedTransformer.
        periods: at least three lengths; by default they are drawn.
        n_periods: how many are drawn, from 5 tokens to 32, or to what the context has room for.
        n_examples: per period and layout.
        seed: of periods and tokens.
        bos: start token: "auto" for the tokenizer's, an id, or None.
        threshold: prefix matching that counts, 0 to 1.
        min_stderrs: by how many standard errors over examples it must be reached.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        The verdict on each head with all scores.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if there are fewer than three periods, or they do not fit the context or the vocabulary.

    Examples:
        >>> verdict = induction_verdict(load_model("gpt2"))
        >>> verdict.is_induction_model
        True
        >>> verdict.to_dataframe()
    """
    chosen = drawn_periods(model, n_periods=n_periods, seed=seed, bos=bos) if periods is None else tuple(periods)
    if len(set(chosen)) < LEAST_PERIODS:
        raise InputError(f"periods: expected at least {LEAST_PERIODS} different lengths, got {list(chosen)}")
    settings: dict[str, Any] = {"n_examples": n_examples, "seed": seed, "bos": bos}
    scattered = prefix_matching_by_period(model, chosen, scattered=True, batch_size=batch_size, **settings)
    suspected = suspected_periods(model, max(chosen), threshold=threshold, **settings)
    lengths = [*chosen, *(period for period in suspected if period not in chosen)]
    repeated = prefix_matching_by_period(model, lengths, scattered=False, batch_size=batch_size, **settings)
    return judge_induction(scattered, repeated, threshold=threshold, min_stderrs=min_stderrs)
