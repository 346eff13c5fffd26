"""What a head loses when something that was written before is taken out of its queries, its keys or its values alone.

Path patching: all other heads, and the other two inputs of the head itself, read the residual stream as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.measure.copied_logit import copied_reads, copying_obstacle
from ih_lens.measure.head_reading import HeadReading, Side, earlier_heads
from ih_lens.measure.match_terms import matching_tokens, prefix_matching_of, targets_of
from ih_lens.measure.provenance import provenance
from ih_lens.measure.read_head import head_batches, read_head, require_linear_reading
from ih_lens.models.effective import plain_matrix
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import json_safe, to_numpy
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import at_least, head_index, one_of

ALL_HEADS, ALL_PREVIOUS = "all earlier heads", "previous token, all heads"
"""Sources beside single heads: what all of them wrote, and what all of them took from the position before."""
SIDES = ("k", "q", "v")
REPLACEMENTS, LN_SCALES = ("zero", "mean"), ("recomputed", "frozen")
_WHAT = "taking terms out of what a head reads"


@torch.no_grad()
def path_effects(
    model: ModelLike,
    head: HeadSpelling,
    tokens: Tensor | None = None,
    *,
    replace: str = "zero",
    ln_scale: str = "recomputed",
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> xr.Dataset:
    """A head's matching and copying with the output of each earlier head taken out of one of its inputs alone.

    Taken out of keys (K-composition) or queries (Q-composition), it changes where the head attends: the measure is
    prefix matching. Taken out of values (V-composition), with attention as it was: the measure is the
    copied logit, what the head adds to the logit of the token at its targets, mean over queries, before the final
    norm's scale.

    Args:
        model: a HookedTransformer.
        head: which, like "L1H4".
        tokens: ids [example, pos] with repeats; by default repeated random tokens as for prefix matching.
        replace: "zero", or "mean" to leave the output's mean over all examples and positions.
        ln_scale: "recomputed" normalises the head's input anew, as the model itself would (TransformerLens's
            `use_split_qkv_input`); "frozen" keeps the scale of the norm, so that exactly the terms of `match_terms` go.
        n_examples: of the random tokens.
        seed: of the random tokens.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        `without` [side, source, example] and `natural` [side, example]; sides "k", "q", "v", sources the earlier heads,
        "all earlier heads", and "previous token, all heads" (only what they took from the position before). "v" is NaN
        where logits are no sums over heads.

    Raises:
        CapabilityError: if the model's attention scores are no sums of terms.
        InputError: if the head does not exist, no token recurs, or weights or tokens cannot be used.

    Examples:
        >>> effects = path_effects(model, "L1H4")
        >>> (effects.natural - effects.without).sel(side="k").mean("example").to_series().idxmax()
        'L0H3'
    """
    one_of("replace", replace, REPLACEMENTS)
    one_of("ln_scale", ln_scale, LN_SCALES)
    found = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    linear = require_linear_reading(model, _WHAT)
    tokens = matching_tokens(model, tokens, n_examples, seed)
    heads = earlier_heads(model, found.layer)
    sources = [*map(str, heads), ALL_HEADS, ALL_PREVIOUS] if heads else []
    parts: list[dict[str, Tensor]] = []
    with fastest_float32():
        means = _means(linear, found, tokens, batch_size) if replace == "mean" else {}
        for examples in head_batches(model, found, tokens, batch_size):
            patched = _Patched.of(linear, found, tokens[examples], ln_scale)
            natural = patched.all_sides(None)
            without = natural.new_empty(len(SIDES), len(sources), natural.shape[1])
            for place, source in enumerate(sources):  # one at a time: a change is as large as the residual stream
                without[:, place] = patched.all_sides(patched.change(source, means))
            parts.append({"natural": natural.cpu(), "without": without.cpu()})
    labels = {"side": list(SIDES), "source": sources}
    variables = {
        "natural": (("side", "example"), to_numpy(torch.cat([part["natural"] for part in parts], dim=-1))),
        "without": (("side", "source", "example"), to_numpy(torch.cat([part["without"] for part in parts], dim=-1))),
    }
    attributes = provenance(
        model,
        measure="path_effects",
        definition="prefix matching (sides k, q) or copied logit (v) with a source's output taken out of this side's "
        "input of the head alone",
        head=str(found),
        replace=replace,
        ln_scale=ln_scale,
        seed=seed,
        n_examples=len(tokens),
        **({"undefined": obstacle} if (obstacle := copying_obstacle(model)) else {}),
    )
    return xr.Dataset(variables, labels, json_safe(attributes))


@torch.no_grad()
def path_controls(
    model: ModelLike,
    head: HeadSpelling,
    partners: Sequence[tuple[str, HeadSpelling]],
    tokens: Tensor | None = None,
    *,
    n_controls: int = 8,
    replace: str = "zero",
    ln_scale: str = "recomputed",
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> xr.DataArray:
    """What something just as large from random other heads does, where `path_effects` takes a partner out.

    For each partner the outputs of other earlier heads, drawn from the seed, stand in for its own: scaled, example
    by example, to the size of what was taken out (its norm over all positions). Heads that write nothing
    are not drawn.

    Args:
        model: a HookedTransformer.
        head: the head whose inputs are changed.
        partners: pairs of a side ("k", "q", "v") and an earlier head.
        n_controls: other heads per partner; all that there are, where there are fewer.
        tokens: these and the other arguments as in `path_effects`.
        replace: see there.
        ln_scale: see there.
        n_examples: see there.
        seed: see there; also of the choice.
        batch_size: see there.

    Returns:
        The measure of `path_effects` [partner, control, example], partners labelled like "k L0H3"; NaN for controls
        beyond those that there are.

    Raises:
        CapabilityError: as `path_effects`.
        InputError: as `path_effects`.

    Examples:
        >>> path_controls(model, "L1H4", [("k", "L0H3")]).mean("example")
    """
    one_of("replace", replace, REPLACEMENTS)
    one_of("ln_scale", ln_scale, LN_SCALES)
    at_least("n_controls", n_controls, 1)
    found = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    linear = require_linear_reading(model, _WHAT)
    tokens = matching_tokens(model, tokens, n_examples, seed)
    chosen = [
        (one_of("side", side, SIDES), head_index(other, found.layer, model.cfg.n_heads)) for side, other in partners
    ]
    candidates = [other for other in earlier_heads(model, found.layer) if _writes(model, other)]
    others = [_drawn([head for head in candidates if head != partner], n_controls, seed) for _, partner in chosen]
    parts: list[Tensor] = []
    with fastest_float32():
        means = _means(linear, found, tokens, batch_size) if replace == "mean" else {}
        for examples in head_batches(model, found, tokens, batch_size):
            patched = _Patched.of(linear, found, tokens[examples], ln_scale)
            result = patched.reading.residual.new_full((len(chosen), n_controls, len(tokens[examples])), torch.nan)
            for row, ((side, partner), stand_ins) in enumerate(zip(chosen, others, strict=True)):
                for column, measured in enumerate(patched.in_place_of(side, partner, stand_ins, means)):
                    result[row, column] = measured
            parts.append(result.cpu())
    labels = {"partner": [f"{side} {partner}" for side, partner in chosen], "control": list(range(n_controls))}
    attributes = provenance(
        model, measure="path_controls", head=str(found), replace=replace, ln_scale=ln_scale, seed=seed
    )
    numbers = to_numpy(torch.cat(parts, dim=-1))
    return xr.DataArray(numbers, labels, ("partner", "control", "example"), attrs=json_safe(attributes))


@dataclass(frozen=True)
class _Patched:
    """A batch, measured with changes of one input of the head at a time."""

    reading: HeadReading
    targets: Bool[Tensor, "batch query_pos key_pos"]
    natural: Mapping[str, Float[Tensor, "batch pos d_head"]]
    pattern: Float[Tensor, "batch query_pos key_pos"]
    copied: Float[Tensor, "batch query_pos d_head"] | None
    ln_scale: str

    @classmethod
    def of(
        cls, model: HookedTransformer, head: HeadIndex, tokens: Int[Tensor, "batch pos"], ln_scale: str
    ) -> "_Patched":
        reading = read_head(model, head, tokens)
        targets = targets_of(reading, tokens)
        natural = {side: reading.whole(side) for side in SIDES}
        copied = None if copying_obstacle(model) else copied_reads(reading, tokens, targets)
        return cls(reading, targets, natural, reading.scores.softmax(dim=-1), copied, ln_scale)

    def change(self, source: str, means: Mapping[HeadIndex, Tensor]) -> Float[Tensor, "batch pos d_model"]:
        """What is taken out of the residual stream for a source."""
        heads = earlier_heads(self.reading.model, self.reading.head.layer)
        single = source not in (ALL_HEADS, ALL_PREVIOUS)
        chosen = [HeadIndex.parse(source)] if single else heads
        written = [self.reading.written(head, previous=source == ALL_PREVIOUS) for head in chosen]
        left = [means[head] for head in chosen if head in means and source != ALL_PREVIOUS]
        total = torch.stack(written).sum(dim=0)
        return total - torch.stack(left).sum(dim=0) if left else total

    def all_sides(self, change: Float[Tensor, "batch pos d_model"] | None) -> Float[Tensor, "side batch"]:
        """`measured` for each of `SIDES`."""
        changed = self._changed(change)
        return torch.stack([self._measured(side, changed(side)) for side in SIDES])

    def measured(self, side: Side, change: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch"]:
        """Prefix matching, or the copied logit, with one input changed."""
        return self._measured(side, self._changed(change)(side))

    def in_place_of(
        self, side: str, partner: HeadIndex, stand_ins: Sequence[HeadIndex], means: Mapping[HeadIndex, Tensor]
    ) -> Iterator[Float[Tensor, "batch"]]:
        """`measured` with each stand-in's output taken out instead of the partner's, at that one's size."""
        size = _norms(self.change(str(partner), means))
        for stand_in in stand_ins:
            change = self.change(str(stand_in), means)
            yield self.measured(cast(Side, side), change * (size / _norms(change)))

    def _changed(
        self, change: Float[Tensor, "batch pos d_model"] | None
    ) -> Callable[[Side], Float[Tensor, "batch pos d_head"]]:
        """Queries, keys and values after a change; what is left is normalised once for all of them."""
        if change is None:
            return lambda side: self.natural[side]
        if self.ln_scale == "recomputed":
            return self.reading.without(change).whole
        return lambda side: self.reading.after(side, change, ln_scale="frozen")

    def _measured(self, side: Side, changed: Float[Tensor, "batch pos d_head"]) -> Float[Tensor, "batch"]:
        if side == "v":
            return self._copied_logit(changed)
        queries, keys = (changed, self.natural["k"]) if side == "q" else (self.natural["q"], changed)
        return prefix_matching_of(self.reading.pattern(queries, keys), self.targets)

    def _copied_logit(self, values: Float[Tensor, "batch pos d_head"]) -> Float[Tensor, "batch"]:
        if self.copied is None:
            return torch.full_like(values[:, 0, 0], torch.nan)
        return (self.pattern @ values * self.copied).sum(dim=(1, 2))


def _means(
    model: HookedTransformer, head: HeadIndex, tokens: Int[Tensor, "example pos"], batch_size: int | None
) -> dict[HeadIndex, Float[Tensor, "d_model"]]:
    """Each earlier head's output, mean over all examples and positions."""
    heads = earlier_heads(model, head.layer)
    totals: dict[HeadIndex, Any] = dict.fromkeys(heads, 0.0)
    for examples in head_batches(model, head, tokens, batch_size):
        reading = read_head(model, head, tokens[examples])
        for earlier in heads:
            totals[earlier] = totals[earlier] + reading.written(earlier).sum(dim=(0, 1))
    return {earlier: total / tokens.numel() for earlier, total in totals.items()}


def _writes(model: ModelLike, head: HeadIndex) -> bool:
    """Whether a head can write anything into the residual stream."""
    return all(bool(plain_matrix(model, name, head.layer)[head.head].any()) for name in ("W_V", "W_O"))


def _drawn(heads: Sequence[HeadIndex], n: int, seed: int) -> list[HeadIndex]:
    order = torch.randperm(len(heads), generator=torch.Generator().manual_seed(seed), device="cpu")
    return [heads[int(place)] for place in order[:n]]


def _norms(change: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch 1 1"]:
    return torch.linalg.vector_norm(change, dim=(1, 2), keepdim=True)
