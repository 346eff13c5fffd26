"""How much of the next token each head writes by copying its earlier occurrences, the more often it was repeated."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.measure.attention import measurable_tokens, reduce_attention
from ih_lens.measure.attribution import logit_attribution
from ih_lens.measure.fused_attention import LayerAttention
from ih_lens.measure.provenance import provenance
from ih_lens.results import json_safe
from ih_lens.statistics import standard_error
from ih_lens.types import ModelLike
from ih_lens.validate import at_least

_ATTRIBUTIONS_AT_ONCE = 2**24


def repetition_dominance(
    model: ModelLike, tokens: Tensor, *, max_repetitions: int = 8, batch_size: int | None = None
) -> xr.Dataset:
    """What each head attends to and writes towards a token, by how often that token has followed before.

    At each position the sources are those positions that hold the token that actually comes next and stand right
    after an earlier occurrence of the present token: what an induction head copies. Their number is how often the pair
    was repeated so far. Loops feed on themselves if what heads write grows with it.

    Args:
        model: any HookedTransformer.
        tokens: ids with repetitions, such as `repeated_random_tokens(model, repeats=8)`, or text that was generated.
        max_repetitions: positions with more are left out.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        Over [layer, head, repetitions], means over positions, then over examples that have such positions:

        - `attention`: on the sources, 0 to 1; 0 for no repetition, where there is no source;
        - `attribution`: what the head adds from the sources to the logit of the next token, in nats, with the final
            norm's scale; what it adds from all others is `attribution_elsewhere`;
        - `dominance`: attribution over the sum over all heads of |attribution| + |attribution_elsewhere|, -1 to 1: the
            share of all that heads say of the next token. Their `_stderr` beside the first two.

        `n_examples` [repetitions] counts examples. NaN where there are none.

    Raises:
        CapabilityError: if the heads' outputs do not reach the logits linearly.
        InputError: if the weights or tokens cannot be used, or nothing in the tokens is repeated.

    Examples:
        >>> dominance = repetition_dominance(model, repeated_random_tokens(model, length=10, repeats=8))
        >>> dominance["dominance"].sel(layer=5, head=1).to_series()

    After Wang et al. 2025 (arXiv 2505.13514), who find that a few heads come to dominate as a token is repeated.
    """
    counts = range(at_least("max_repetitions", max_repetitions, 1) + 1)
    ids = measurable_tokens(model, tokens, min_length=2)
    sources = _sources(ids)
    n_before = sources.sum(dim=-1)
    if not bool((n_before > 0).any()):
        raise InputError(
            "tokens: no token follows twice after the same one, so nothing is repeated; use repeated_random_tokens, or "
            "longer texts"
        )
    which = torch.stack([n_before == count for count in counts])  # [repetitions, example, dest]

    def attended(attention: LayerAttention, examples: slice) -> Float[Tensor, "batch head_index repetitions"]:
        pattern = attention.pattern[:, :, :-1, :-1]
        on_sources = torch.einsum("bhds,bds->bhd", pattern, sources[examples].to(pattern))
        return _means(on_sources, which[:, examples])

    found = {"attention": reduce_attention(model, ids, attended, batch_size=batch_size)}
    n_dest = ids.shape[1] - 1
    size = max(1, _ATTRIBUTIONS_AT_ONCE // (model.cfg.n_layers * model.cfg.n_heads * n_dest**2))
    written: list[list[Tensor]] = [[], []]
    for start in range(0, len(ids), size if batch_size is None else batch_size):
        part = slice(start, start + (size if batch_size is None else batch_size))
        attribution = logit_attribution(model, ids[part], batch_size=batch_size)
        copied = torch.einsum("blhds,bds->blhd", attribution, sources[part].to(attribution))
        for place, values in enumerate((copied, attribution.sum(dim=-1) - copied)):
            written[place].append(_means(values, which[:, part]))
    found |= {"attribution": torch.cat(written[0]), "attribution_elsewhere": torch.cat(written[1])}
    return _labelled(model, found, which, counts)


def _sources(ids: Int[Tensor, "example pos"]) -> Bool[Tensor, "example dest src"]:
    """For destinations 0..n_pos-2: earlier positions of the token that comes next, after one of the present token."""
    same = ids[:, :, None] == ids[:, None, :]
    n_dest = ids.shape[1] - 1
    follows = torch.zeros(len(ids), n_dest, n_dest, dtype=torch.bool, device="cpu")
    follows[:, :, 1:] = same[:, 1:, 1:-1] & same[:, :-1, :-2]
    return follows.tril()


def _means(
    values: Float[Tensor, "batch *heads dest"], which: Bool[Tensor, "repetitions batch dest"]
) -> Float[Tensor, "batch *heads repetitions"]:
    """Means over the destinations of each number of repetitions; NaN without any."""
    chosen = which.to(values).permute(1, 2, 0)
    totals = torch.einsum("b...d,bdr->b...r", values, chosen)
    n_each = chosen.sum(dim=1)
    return totals / n_each.view(len(n_each), *[1] * (values.ndim - 2), -1)


def _labelled(
    model: ModelLike,
    found: dict[str, Tensor],
    which: Bool[Tensor, "repetitions example dest"],
    counts: Sequence[int],
) -> xr.Dataset:
    """Means over examples with their standard errors, and the share of each head."""
    dims = ("layer", "head", "repetitions")
    has = which.any(dim=-1).numpy()
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, values in found.items():
        each = values.double().numpy()
        parts = [each[has[count], ..., count] for count in range(len(counts))]
        undefined = np.full(each.shape[1:-1], np.nan)
        means = [part.mean(axis=0) if len(part) else undefined for part in parts]
        variables[name] = (dims, np.stack(means, axis=-1))
        variables[f"{name}_stderr"] = (dims, np.stack([standard_error(part) for part in parts], axis=-1))
    copied, elsewhere = (variables[name][1] for name in ("attribution", "attribution_elsewhere"))
    variables["dominance"] = (dims, copied / (abs(copied) + abs(elsewhere)).sum(axis=(0, 1)))
    variables["n_examples"] = (("repetitions",), has.sum(axis=1))
    labels = {"layer": range(copied.shape[0]), "head": range(copied.shape[1]), "repetitions": list(counts)}
    about = provenance(
        model,
        measure="repetition_dominance",
        definition="attention to, and logit attribution from, the positions that hold the token that comes next right "
        "after an earlier occurrence of the present token, by their number; mean over positions, then over examples",
    )
    return xr.Dataset(variables, {name: list(values) for name, values in labels.items()}, json_safe(about))
