"""Induction by pointer arithmetic: queries hold where a token stood before, keys hold where they stand."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.errors import CapabilityError, InputError
from ih_lens.measure.head_evaluators.prefix_matching import prefix_matching_offset_scan
from ih_lens.measure.head_reading import POSITIONS, HeadReading, term_names
from ih_lens.measure.match_terms import match_weights, matching_tokens, prefix_matching_of, weighted_keys
from ih_lens.measure.provenance import provenance
from ih_lens.measure.read_head import head_batches, read_layer, require_linear_reading
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import json_safe, to_numpy
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import head_index

_VIEWS = ("prefix_matching", "without_duplicates", "positional_keys", "positional_keys_without_duplicates")


@torch.no_grad()
def pointer_arithmetic(
    model: ModelLike,
    tokens: Tensor | None = None,
    *,
    duplicates: Sequence[HeadSpelling] | None = None,
    threshold: float = 0.3,
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> xr.Dataset:
    """How far each head matches prefixes by the positions that duplicate-token heads found: Q-composition.

    A duplicate-token head attends to earlier occurrences of its token and writes where they are; a later head whose
    queries read that looks one position further, by keys that hold nothing but their own position. So the queries are
    taken with and without what all duplicate-token heads wrote, against keys of positions alone:

        share = (prefix matching by positional keys - the same without duplicates in the queries) / prefix matching

    Positional keys are the terms of added positions and biases at the norm's actual scale; queries without
    duplicates are normalised anew. Positions that MLPs or heads carry into keys are not counted.

    Args:
        model: a HookedTransformer with positions that are added to its embedding, or to queries and keys.
        tokens: ids [example, pos] with repeats; by default repeated random tokens as for prefix matching.
        duplicates: the duplicate-token heads; by default those whose duplicate-token score reaches the threshold.
        threshold: see there.
        n_examples: of the random tokens.
        seed: of the random tokens.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        [layer, head]: `share`; what it is made of, `prefix_matching`, `positional_keys`,
        `positional_keys_without_duplicates`; `without_duplicates`, prefix matching by complete keys without them;
        `score_share`, the exact part of the match (see `match_terms`) that is made of a duplicate-token head in the
        query and a position in the key; and `duplicate_token`, each head's attention to earlier occurrences (prefix
        matching with offset -1). In the first layer all but the last and `prefix_matching` are NaN, and shares are
        NaN where there is no match.

    Raises:
        CapabilityError: if positions never are a term of keys (rotary embeddings, ALiBi, none), or attention scores
            are no sums of terms.
        InputError: if heads do not exist, no token recurs, or weights or tokens cannot be used.

    Examples:
        >>> pointer_arithmetic(load_model("gpt2"))["share"].max().item()
        0.4
    """
    linear = require_linear_reading(model, "pointer arithmetic")
    if POSITIONS not in term_names(model, 0):
        raise CapabilityError(
            f"pointer arithmetic needs keys that hold positions, and those of this model "
            f"({model.cfg.positional_embedding_type}) never do; use match_terms or explain_head"
        )
    tokens = matching_tokens(model, tokens, n_examples, seed)
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected a score above 0, at most 1, got {threshold!r}")
    scores = prefix_matching_offset_scan(model, tokens, [-1], batch_size=batch_size)[0]
    chosen = _duplicates(model, duplicates, scores, threshold)
    found = {**_measured_heads(linear, tokens, chosen, batch_size), "duplicate_token": scores}
    labels = {"layer": np.arange(model.cfg.n_layers), "head": np.arange(model.cfg.n_heads)}
    attributes = provenance(
        model,
        measure="pointer_arithmetic",
        definition="(prefix matching by positional keys - the same without duplicate-token heads in the queries) / "
        "prefix matching",
        duplicates=", ".join(map(str, chosen)),
        threshold=threshold,
        seed=seed,
        n_examples=len(tokens),
        undefined="heads of the first layer read no head; shares need a match",
    )
    variables = {name: (("layer", "head"), to_numpy(values)) for name, values in found.items()}
    return xr.Dataset(variables, labels, json_safe(attributes))


def _duplicates(
    model: ModelLike,
    given: Sequence[HeadSpelling] | None,
    scores: Float[Tensor, "layer head"],
    threshold: float,
) -> list[HeadIndex]:
    """The heads that are told or found to be duplicate-token heads."""
    if given is not None:
        return [head_index(head, model.cfg.n_layers, model.cfg.n_heads) for head in given]
    return [HeadIndex(*map(int, place)) for place in (scores >= threshold).nonzero().tolist()]


def _measured_heads(
    model: HookedTransformer,
    tokens: Int[Tensor, "example pos"],
    duplicates: Sequence[HeadIndex],
    batch_size: int | None,
) -> dict[str, Float[Tensor, "layer head"]]:
    """`_VIEWS`, means over examples, and the shares; of the first layer, which reads no head, prefix matching alone."""
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    found = {name: torch.full(shape, torch.nan, dtype=torch.float64, device="cpu") for name in (*_VIEWS, "score_share")}
    with fastest_float32():
        for layer in range(model.cfg.n_layers):
            parts = [
                torch.stack([_measured(reading, part, duplicates) for reading in read_layer(model, layer, part)])
                for examples in head_batches(model, HeadIndex(layer, 0), tokens, batch_size)
                for part in [tokens[examples]]
            ]
            of_layer = torch.cat(parts, dim=-1).nanmean(dim=-1)
            for place, name in enumerate(_VIEWS):
                found[name][layer] = of_layer[:, place]
            match = of_layer[:, -1].where(of_layer[:, -1] > 0, torch.nan)
            found["score_share"][layer] = of_layer[:, -2] / match
    found["share"] = (found["positional_keys"] - found["positional_keys_without_duplicates"]) / found["prefix_matching"]
    for name in set(found) - {"prefix_matching"}:
        found[name][0] = torch.nan
    return found


def _measured(
    reading: HeadReading, tokens: Int[Tensor, "batch pos"], duplicates: Sequence[HeadIndex]
) -> Float[Tensor, "view batch"]:
    """`_VIEWS`, then the exact part of the match and the whole match, of each example."""
    weights, targets = match_weights(reading, tokens)
    earlier = [reading.written(head) for head in duplicates if head.layer < reading.head.layer]
    written = torch.stack(earlier).sum(dim=0) if earlier else torch.zeros_like(reading.residual)
    queries, without = reading.whole("q"), reading.after("q", written)
    keys, positional = reading.whole("k"), reading.positional("k")
    views = [
        prefix_matching_of(reading.pattern(of_query, of_key), targets)
        for of_key in (keys, positional)
        for of_query in (queries, without)
    ]
    of_positions = weighted_keys(weights, positional[None])[0]
    exact = (reading.part("q", written) * of_positions).sum(dim=(1, 2))
    whole = (queries * weighted_keys(weights, keys[None])[0]).sum(dim=(1, 2))
    return torch.stack([*views, exact, whole]).cpu()
