"""Which parts of the model make a head match: its attention scores at the induction targets, term by term."""

from typing import NamedTuple

import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.measure.attention import measurable_tokens
from ih_lens.measure.copied_logit import copied_first, copied_reads, copying_obstacle
from ih_lens.measure.head_evaluators._places import prefix_targets
from ih_lens.measure.head_evaluators.prefix_matching import PrefixMatchingEvaluator
from ih_lens.measure.head_reading import ATTENTION_BIAS, HeadReading, Side, earlier_heads, term_names
from ih_lens.measure.provenance import provenance
from ih_lens.measure.read_head import head_batches, read_head, require_linear_reading
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import json_safe, to_numpy
from ih_lens.types import HeadSpelling, ModelLike
from ih_lens.validate import head_index, one_of

_WHAT = "splitting what a head reads"
_TERMS = {"query": "query_term", "key": "key_term", "key_previous": "key_term", "value": "value_term"}


@torch.no_grad()
def attention_score_terms(
    model: ModelLike, head: HeadSpelling, tokens: Tensor, *, side: str = "k"
) -> Float[Tensor, "term example query_pos key_pos"]:
    """Split a head's attention scores into what each part of the model adds to its keys, or to its queries.

    At the actual scales of the norms every score is exactly the sum of these terms. They are, in the order of
    `match_terms(...).key_term`: the embedding, added positions, every earlier head, every MLP, the biases (output
    biases of attention, the norm's, and the matrix's own), and the attention bias of ALiBi. Rotation by position and
    smeared keys are linear and in all of them.

    Args:
        model: a HookedTransformer.
        head: whose scores, like "L1H4".
        tokens: ids [example, pos]; all examples go through the model together.
        side: "k" splits keys (each term with the whole query), "q" queries (each with the whole key).

    Returns:
        Scores before the softmax, divided by the scale of attention; 0 where a query does not see a key.

    Raises:
        CapabilityError: if the model's attention scores are no such sums.
        InputError: if the head does not exist, or weights or tokens cannot be used.

    Examples:
        >>> attention_score_terms(model, "L1H4", tokens).sum(dim=0)  # the head's scores
    """
    one_of("side", side, ("k", "q"))
    found = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    tokens = measurable_tokens(model, tokens)
    reading = read_head(require_linear_reading(model, _WHAT), found, tokens)
    if side == "k":
        terms = reading.whole("q")[None] @ reading.terms("k").mT
    else:
        terms = reading.terms("q") @ reading.whole("k")[None].mT
    biases = reading.bias.expand(1, *terms.shape[1:])
    return torch.cat([terms, biases]).masked_fill(~reading.visible, 0.0).cpu()


@torch.no_grad()
def match_terms(
    model: ModelLike,
    head: HeadSpelling,
    tokens: Tensor | None = None,
    *,
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> xr.Dataset:
    """What makes a head attend to the tokens after earlier occurrences: every part of the model, on either side.

    The match of a query is the head's mean attention score, before the softmax, at its targets (the positions after
    earlier occurrences of its token) less the mean at the other positions that it sees; the mean is taken over queries
    that have both. It is exactly the sum over pairs of a term of the query with a term of the key: of the
    embedding, added positions, every earlier head, every MLP and the biases, at the actual scales of the norms. Only
    direct paths belong to a term: what an MLP makes of a head's output is the MLP's.

    Args:
        model: a HookedTransformer.
        head: which, like "L1H4".
        tokens: ids [example, pos] with repeats; by default repeated random tokens as for prefix matching.
        n_examples: of those.
        seed: of those.
        batch_size: examples per run of the model; by default as many as fit. The result does not depend on it.

    Returns:
        `pairs` [query_term, key_term], means over examples; `query` [example, query_term] and `key` [example,
        key_term], their sums over the other side; `key_previous` [example, key_term], the part of each head's key term
        that it took from the position before (NaN for what is no head); `match` [example], the whole; `prefix_matching`
        [example]. Scores without unit. Examples without a query that counts are NaN. `value` [example, value_term]
        splits the copied logit: what the head, with its attention as it is, adds to the logit of the token at its
        targets (effective unembedding, before the final norm's scale; mean over queries); `copied_first` [example] is
        the share of queries at which it raises no token's logit more. Both are NaN where logits are no sums over heads.

    Raises:
        CapabilityError: if the model's attention scores are no such sums.
        InputError: if the head does not exist, no token recurs, or weights or tokens cannot be used.

    Examples:
        >>> terms = match_terms(model, "L1H4")
        >>> match_shares(terms).head(1)
          side  term  contribution  stderr  share  share_stderr
        0  key  L0H3          9.42    0.11   0.83          0.01
    """
    found = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    linear = require_linear_reading(model, _WHAT)
    tokens = matching_tokens(model, tokens, n_examples, seed)
    names = _names(model, found.layer)
    parts: list[dict[str, Tensor]] = []
    pairs = torch.zeros(len(names), len(names), dtype=torch.float64, device="cpu")
    with fastest_float32():
        for examples in head_batches(model, found, tokens, batch_size):
            reading = read_head(linear, found, tokens[examples])
            part = _batch(reading, match_weights(reading, tokens[examples]))
            part |= _copied(reading, tokens[examples], names)
            pairs += part.pop("pairs").nansum(dim=0).double().cpu()
            parts.append(part)
    of_examples = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    n_defined = int(of_examples["match"].isfinite().sum())
    if n_defined == 0:
        raise InputError(f"tokens: no query of {found} sees both a target and another position; use longer examples")
    variables = {
        name: (("example", _TERMS[name]) if name in _TERMS else ("example",), to_numpy(values))
        for name, values in of_examples.items()
    }
    variables["pairs"] = (("query_term", "key_term"), to_numpy(pairs / n_defined))
    attributes = provenance(
        model,
        measure="match_terms",
        definition="attention score before the softmax, mean at the tokens after earlier occurrences less mean at the "
        "other visible positions, mean over queries; split into terms of query and key at the norms' actual scales",
        head=str(found),
        seed=seed,
        n_examples=len(tokens),
        unit="score (no unit)",
    )
    return xr.Dataset(variables, dict.fromkeys(("query_term", "key_term", "value_term"), names), json_safe(attributes))


def _names(model: ModelLike, layer: int) -> list[str]:
    """All terms of scores."""
    by_distance = [ATTENTION_BIAS] if model.cfg.positional_embedding_type == "alibi" else []
    return [*term_names(model, layer), *by_distance]


def matching_tokens(model: ModelLike, tokens: Tensor | None, n_examples: int, seed: int) -> Int[Tensor, "example pos"]:
    """The tokens given, or repeated random ones; at least one of them recurs."""
    if tokens is None:
        evaluator = PrefixMatchingEvaluator(n_examples=n_examples).fitted(model)
        return measurable_tokens(model, evaluator.tokens(model, seed=seed))
    tokens = measurable_tokens(model, tokens, min_length=2)
    if not any(bool(prefix_targets(example[None], 0, 1).any()) for example in tokens):
        raise InputError("tokens: none recurs, so nothing can be matched; use repeated_random_tokens(model)")
    return tokens


def targets_of(reading: HeadReading, tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch query_pos key_pos"]:
    """The induction targets of every query, seen or not."""
    return prefix_targets(tokens, 0, 1).to(reading.residual.device)


def prefix_matching_of(
    pattern: Float[Tensor, "batch query_pos key_pos"], targets: Bool[Tensor, "batch query_pos key_pos"]
) -> Float[Tensor, "batch"]:
    """Each example's prefix matching: attention summed over targets, mean over queries that have any."""
    n_queries = targets.any(dim=-1).sum(dim=-1)
    return (pattern * targets).sum(dim=(1, 2)) / n_queries


class MatchWeights(NamedTuple):
    """How scores are weighted to give each example's match.

    Attributes:
        weights: one over the number of targets at targets, minus one over that of others at the others, over queries.
        targets: the induction targets.
    """

    weights: Float[Tensor, "batch query_pos key_pos"]
    targets: Bool[Tensor, "batch query_pos key_pos"]


def match_weights(reading: HeadReading, tokens: Int[Tensor, "batch pos"]) -> MatchWeights:
    """Of a batch; NaN throughout for examples without a query that sees both a target and another position."""
    targets = targets_of(reading, tokens)
    at, others = targets & reading.visible, ~targets & reading.visible
    has_both = at.any(dim=-1, keepdim=True) & others.any(dim=-1, keepdim=True)
    of_targets, of_others = (kind.to(reading.residual) / kind.sum(dim=-1, keepdim=True) for kind in (at, others))
    each = torch.where(has_both, of_targets - of_others, torch.zeros_like(of_targets))
    n_queries = has_both.sum(dim=1, keepdim=True).to(each)
    return MatchWeights(each / n_queries.where(n_queries > 0, torch.nan), targets)


def weighted_keys(
    weights: Float[Tensor, "batch query_pos key_pos"], keys: Float[Tensor, "term batch key_pos d_head"]
) -> Float[Tensor, "term batch query_pos d_head"]:
    """The one key per query that stands for all, each with its weight."""
    return weights[None] @ keys


def _batch(reading: HeadReading, weighted: MatchWeights) -> dict[str, Tensor]:
    """Contributions of all pairs of terms for each example; no scores are formed but the head's own."""
    weights = weighted.weights
    sides: dict[Side, Tensor] = {"q": reading.terms("q"), "k": weighted_keys(weights, reading.terms("k"))}
    pairs = torch.einsum("sbid,tbid->bst", sides["q"], sides["k"])
    names = _names(reading.model, reading.head.layer)
    if ATTENTION_BIAS in names:
        pairs = torch.nn.functional.pad(pairs, (0, 1, 0, 1))
        pairs[:, -1, -1] = (weights * reading.bias).sum(dim=(1, 2))
    previous = weighted_keys(weights, reading.previous_terms("k"))
    of_heads = torch.einsum("bid,tbid->bt", reading.whole("q"), previous)
    key_previous = torch.full_like(pairs[:, 0], torch.nan)
    key_previous[:, [names.index(str(head)) for head in earlier_heads(reading.model, reading.head.layer)]] = of_heads
    seen = reading.scores.masked_fill(~reading.visible, 0.0)
    found = {
        "pairs": pairs,
        "query": pairs.sum(dim=2),
        "key": pairs.sum(dim=1),
        "key_previous": key_previous,
        "match": (weights * seen).sum(dim=(1, 2)),
        "prefix_matching": prefix_matching_of(reading.scores.softmax(dim=-1), weighted.targets),
    }
    return {name: values.cpu() for name, values in found.items()}


def _copied(reading: HeadReading, tokens: Int[Tensor, "batch pos"], names: list[str]) -> dict[str, Tensor]:
    """The copied logit by terms of values, and how often it is the largest."""
    value = reading.residual.new_full((len(tokens), len(names)), torch.nan)
    if copying_obstacle(reading.model):
        return {"value": value.cpu(), "copied_first": value[:, 0].cpu()}
    targets = targets_of(reading, tokens)
    # the pattern is moved to the other factor, so that it is applied once and not to every term
    reads = reading.scores.softmax(dim=-1).mT @ copied_reads(reading, tokens, targets)
    terms = torch.einsum("tbjd,bjd->bt", reading.terms("v"), reads)
    value[:, : terms.shape[1]] = terms
    value[:, terms.shape[1] :] = 0.0
    return {"value": value.cpu(), "copied_first": copied_first(reading, tokens, targets).cpu()}
