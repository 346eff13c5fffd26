"""Prefix matching at several periods, with and without a distance that is always the same."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.induction_tokens import scattered_copies
from ih_lens.data.random_tokens import n_random_tokens, repeated_random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.measure.attention import AttentionReduction, measurable_tokens, measure_attention, measure_examples
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.head_evaluators.prefix_matching import PrefixMatchingEvaluator
from ih_lens.results import to_numpy
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

SHORTEST_PERIOD, LONGEST_PERIOD = 5, 32
"""Those that are drawn; below, attention that is spread over few positions already looks like a match."""
N_COPIES = 3
_BETWEEN = (1, 2)
"""Other tokens between the copies, in periods: at least, and where there is room."""


def drawn_periods(
    model: ModelLike, *, n_periods: int = 4, seed: int = 0, bos: int | str | None = "auto"
) -> tuple[int, ...]:
    """Random periods that fit the model, one from each of as many ranges between the shortest and the longest.

    Raises:
        InputError: if the context or the vocabulary have no room for three different ones.

    Examples:
        >>> drawn_periods(load_model("gpt2"))
        (9, 13, 24, 29)
    """
    n_places, n_tokens = _room(model, bos)
    longest = min(LONGEST_PERIOD, n_places // (N_COPIES + _BETWEEN[0]), n_tokens // (1 + _BETWEEN[0]))
    n_fitting = longest - SHORTEST_PERIOD + 1
    if n_fitting < at_least("n_periods", n_periods, 3):
        if n_fitting < 3:
            raise InputError(
                f"a verdict needs at least three different periods from {SHORTEST_PERIOD} on, other tokens between; "
                f"{n_places} places and {n_tokens} tokens to draw from have room for periods up to {longest}"
            )
        n_periods = n_fitting
    ranges = np.array_split(np.arange(SHORTEST_PERIOD, longest + 1), n_periods)
    shares = as_uniform(random_words(seed, Stream.ARRANGEMENT, 0, n_periods))
    return tuple(int(lengths[int(share * len(lengths))]) for lengths, share in zip(ranges, shares, strict=True))


def prefix_matching_by_period(
    model: ModelLike,
    periods: Sequence[int] | None = None,
    *,
    scattered: bool = True,
    n_examples: int = 10,
    seed: int = 0,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
) -> Estimate:
    """Prefix matching on random sequences of several lengths, each three times.

    Args:
        model: any HookedTransformer.
        periods: lengths; by default four that are drawn.
        scattered: with random numbers of other tokens before each copy (`scattered_copies`; one to two periods of
            them in all), so that what followed an earlier occurrence stands at no fixed distance; False for one copy
            right after the other, as in `repeated_random_tokens`, where counting back finds it too.
        n_examples: per period.
        seed: of the random tokens, and of the periods that are drawn.
        bos: start token.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        [period, layer, head], 0 to 1, with its spread over examples. NaN for heads of local attention whose window
        reaches no target.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if a period does not fit the context or the vocabulary, or two are the same.

    Examples:
        >>> prefix_matching_by_period(model, [6, 11, 20]).value.min("period")
    """
    chosen = drawn_periods(model, seed=seed, bos=bos) if periods is None else tuple(periods)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"periods: expected different lengths, got {list(chosen)}")
    evaluator = PrefixMatchingEvaluator(bos=bos)
    found: list[Tensor] = []
    for period in chosen:
        tokens = measurable_tokens(model, _examples(model, period, scattered, n_examples, seed, bos))
        measured = measure_examples(model, tokens, [evaluator.reduction(model, tokens)], batch_size=batch_size)[0]
        found.append(measured.examples if measured.examples is not None else measured.scores[None])
    values = np.stack([to_numpy(scores) for scores in found], axis=1)
    n_layers, n_heads = values.shape[2:]
    coordinates = {"period": list(chosen), "layer": np.arange(n_layers), "head": np.arange(n_heads)}
    attributes = {"definition": PrefixMatchingEvaluator.definition, "scattered": int(scattered), "seed": seed}
    return Estimate.from_examples(
        xr.DataArray(values, coordinates, ("example", *coordinates), "prefix_matching", attributes)
    )


def attention_by_distance(
    model: ModelLike, tokens: Tensor, *, batch_size: int | None = None
) -> Float[Tensor, "distance layer head"]:
    """Mean attention from each position to the one that lies a given number of positions back, whatever stands there.

    Args:
        model: any HookedTransformer.
        tokens: ids [example, pos].
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Attention in [0, 1] at distance 0 to n_pos - 1, means over the queries that have such a position, and over
        examples. Distance 1 is `previous_token_score`.

    Examples:
        >>> attention_by_distance(model, tokens)[1]  # to the previous token
    """
    tokens = measurable_tokens(model, tokens)
    n_pos = tokens.shape[1]
    n_queries = torch.arange(n_pos, 0, -1, device="cpu")

    def to_each(attention: LayerAttention, _: slice) -> Float[Tensor, "batch head_index distance"]:
        pattern, first = attention.pattern, attention.first_query
        sums = [pattern.diagonal(first - distance, dim1=-2, dim2=-1).sum(dim=-1) for distance in range(n_pos)]
        return torch.stack(sums, dim=-1)

    def finish(sums: Float[Tensor, "example layer head_index distance"]) -> Float[Tensor, "distance layer head_index"]:
        return (sums.mean(dim=0) / n_queries).permute(2, 0, 1)

    reduction = AttentionReduction(to_each, finish)
    return measure_attention(model, tokens, [reduction], batch_size=batch_size)[0]


def suspected_periods(
    model: ModelLike,
    period: int,
    *,
    threshold: float,
    seed: int = 0,
    n_examples: int = 10,
    bos: int | str | None = "auto",
    most: int = 8,
) -> tuple[int, ...]:
    """Periods that a head would solve by always looking equally far back: those distances, plus one.

    Looked for on scattered copies of one period; the strongest first, as far as they fit the model.
    """
    tokens = measurable_tokens(model, _examples(model, period, True, n_examples, seed, bos))
    strongest = attention_by_distance(model, tokens).flatten(1).amax(dim=1)
    n_places, n_tokens = _room(model, bos)
    fitting = range(SHORTEST_PERIOD, min(n_places // 2, n_tokens, len(strongest)) + 1)
    found = [length for length in fitting if strongest[length - 1] >= threshold]
    return tuple(sorted(found, key=lambda length: -float(strongest[length - 1]))[:most])


def _examples(
    model: ModelLike, period: int, scattered: bool, n_examples: int, seed: int, bos: int | str | None
) -> Int[Tensor, "example pos"]:
    """Copies of a random sequence; two where a third has no room."""
    at_least("periods", period, 2)
    n_places, n_tokens = _room(model, bos)
    if scattered:
        least, most = (n_periods * period for n_periods in _BETWEEN)
        return scattered_copies(
            model,
            length=period,
            n_copies=N_COPIES,
            n_between=max(least, min(most, n_tokens - period, n_places - N_COPIES * period)),
            n_examples=n_examples,
            seed=seed,
            bos=bos,
        )
    repeats = max(2, min(N_COPIES, n_places // period))
    return repeated_random_tokens(model, length=period, repeats=repeats, n_examples=n_examples, seed=seed, bos=bos)


def _room(model: ModelLike, bos: int | str | None) -> tuple[int, int]:
    """Positions after the start token, and tokens to draw from."""
    return model.cfg.n_ctx - (start_token(model, bos) is not None), n_random_tokens(model, bos)
