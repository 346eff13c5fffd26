"""Ablation effects beside those of random heads that are alike but for what is claimed of the ablated ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ih_lens.analysis.ablation_effects import ablation_effects
from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.estimates import N_RESAMPLES, Estimate
from ih_lens.measure.ablate_heads import ablate_heads
from ih_lens.measure.head_output_norms import head_output_norms
from ih_lens.measure.token_losses import token_losses
from ih_lens.types import HeadGroup, HeadIndex, ModelLike
from ih_lens.validate import at_least, chosen_context_indices, head_groups, one_of

MATCHES = ("layer", "norm")
Group = tuple[HeadIndex, ...]


@dataclass(frozen=True)
class MatchedAblations:
    """Effects of ablating groups of heads, and of ablating random groups that match them.

    Attributes:
        effect: of the groups asked for, [group], in nats.
        null: of the random groups, [group, draw]; NaN where there were fewer than asked for. The coordinate `drawn`
            names the heads.
        norms: [layer, head], how much each head writes, where groups were matched by it.
    """

    effect: Estimate
    null: xr.DataArray
    norms: xr.DataArray | None = None

    @property
    def stderr(self) -> xr.DataArray:
        """Standard error over examples of each group's effect."""
        return self.effect.stderr

    def confidence_interval(
        self, level: float = 0.95, *, method: str = "bootstrap", n_resamples: int = N_RESAMPLES, seed: int = 0
    ) -> xr.DataArray:
        """Interval over examples of each group's effect, [group, bound]; see `Estimate.confidence_interval`."""
        return self.effect.confidence_interval(level, method=method, n_resamples=n_resamples, seed=seed)

    def p_value(self, null: float | None = None, *, alternative: str = "two-sided") -> xr.DataArray:
        """Share of the random groups whose effect is at least as extreme: (1 + those) / (1 + all), [group].

        With a number as `null`, the test over examples of the effect against it.
        """
        return self.effect.p_value(self.null if null is None else null, alternative=alternative)


def matched_ablations(
    model: ModelLike,
    evals: EvalSet,
    heads: Sequence[HeadGroup],
    *,
    match: str = "layer",
    n_draws: int = 20,
    seed: int = 0,
    on: str = "loss",
    kind: str = "pattern_preserving",
    replace: str = "zero",
    late: int | None = None,
    early: int | None = None,
    window: int = 0,
    n_nearest: int = 20,
    batch_size: int | None = None,
    progress: bool = True,
) -> MatchedAblations:
    """Ablate heads, or groups of them, and random ones that match each: is the effect that of any such heads?

    Random groups have as many heads as the group, none of them out of it or out of each other twice. All are ablated
    in one sweep; a random group that serves several is ablated once.

    Args:
        model: a HookedTransformer, or a bridge whose hooks take effect.
        evals: examples.
        heads: single heads or groups, as in `ablate_heads`.
        match: "layer": as many heads from each layer as the group has there; "norm": for each head one of the
            `n_nearest` heads of the model that write the most similar amount (`head_output_norms`).
        n_draws: different random groups per group; those there are, where these are fewer.
        seed: of the draws, and of `replace="resample"`.
        on: the effect: "loss" or "in_context_learning"; see `ablation_effects`.
        kind: as in `ablate_heads`.
        replace: as in `ablate_heads`.
        late: for "in_context_learning"; by default as in `token_losses`.
        early: for "in_context_learning".
        window: for "in_context_learning".
        n_nearest: for match="norm".
        batch_size: as in `ablate_heads`.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        `.effect` with its spread over examples, `.null` [group, draw], and `.p_value()`, whose smallest value is
        1 / (1 + draws).

    Raises:
        InputError: for heads that do not exist, groups for which no other heads are left to draw from, or settings
            that are none.

    Examples:
        >>> matched = matched_ablations(model, evals, [["L5H1", "L5H5"]], on="in_context_learning")
        >>> matched.effect.value.item(), matched.p_value(alternative="greater").item()
        (0.61, 0.048)
    """
    one_of("match", match, MATCHES)
    one_of("on", on, ("loss", "in_context_learning"))
    at_least("n_draws", n_draws, 1)
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    groups = head_groups(heads, *shape)
    norms = head_output_norms(model, evals, batch_size=batch_size).double().numpy() if match == "norm" else None
    generator = np.random.default_rng(seed)
    drawn = [groups_like(group, shape, n_draws, generator, norms=norms, n_nearest=n_nearest) for group in groups]
    everything = list(dict.fromkeys([*groups, *(other for others in drawn for other in others)]))
    indices = {} if on == "loss" else chosen_context_indices(evals.n_pos, early=early, late=late)
    settings: dict[str, Any] = {"at_indices": [*indices.values()] or None, "window": window}
    settings |= {"batch_size": batch_size, "progress": progress}
    losses = token_losses(model, evals, **settings)
    ablation: dict[str, Any] = {"kind": kind, "replace": replace, "seed": seed}
    ablation |= {"heads": [list(group) for group in everything], "context_indices": settings["at_indices"] or [1]}
    ablated = ablate_heads(model, evals, **ablation, **settings)
    reading: dict[str, Any] = {"on": on, "window": window, **indices}
    effects = ablation_effects(ablated, losses, **reading)
    about = {"match": match, "on": on, "kind": kind, "replace": replace, "seed": seed}
    return _labelled(effects, groups, drawn, norms, about)


def groups_like(
    group: Group,
    shape: tuple[int, int],
    n_draws: int,
    generator: np.random.Generator,
    *,
    norms: Float[np.ndarray, "layer head_index"] | None = None,
    n_nearest: int = 20,
) -> list[Group]:
    """Different random groups of other heads that match one: by layer, or by what they write where `norms` says it."""
    if norms is None:
        return _different(partial(_like_layers, group, shape), n_draws, generator)
    like = partial(_like_norms, norms, at_least("n_nearest", n_nearest, 1))
    return _different(partial(like, group, shape), n_draws, generator)


def _different(
    draw: Callable[[np.random.Generator], Group], n_draws: int, generator: np.random.Generator
) -> list[Group]:
    """Draws without those that came before; a hundred tries for each that is wanted find all, where these are few."""
    found: dict[Group, None] = {}
    for _ in range(100 * n_draws):
        if len(found) == n_draws:
            break
        found[draw(generator)] = None
    return list(found)


def _like_layers(group: Group, shape: tuple[int, int], generator: np.random.Generator) -> Group:
    """As many other heads of each layer."""
    chosen: list[HeadIndex] = []
    for layer in sorted({head.layer for head in group}):
        own = {head.head for head in group if head.layer == layer}
        others = [head for head in range(shape[1]) if head not in own]
        if len(others) < len(own):
            raise InputError(
                f"{_name(group)}: {len(own)} heads of layer {layer} are to be matched, and {len(others)} others are "
                "left there; ablate fewer at once, or use match='norm'"
            )
        picked = generator.choice(others, len(own), replace=False)
        chosen += [HeadIndex(layer, int(head)) for head in np.sort(picked)]
    return tuple(chosen)


def _like_norms(
    norms: Float[np.ndarray, "layer head_index"],
    n_nearest: int,
    group: Group,
    shape: tuple[int, int],
    generator: np.random.Generator,
) -> Group:
    """For each head one of those outside the group, and not taken yet, that write the most similar amount."""
    left = [head for place in np.ndindex(*shape) if (head := HeadIndex(*place)) not in group]
    if len(left) < len(group):
        raise InputError(
            f"{_name(group)}: {len(group)} heads are to be matched, and {len(left)} others are left in the model; "
            "ablate fewer at once"
        )
    chosen: list[HeadIndex] = []
    for place in generator.permutation(len(group)):
        amount = norms[group[place]]
        nearest = sorted(left, key=lambda head: abs(norms[head] - amount))[:n_nearest]
        chosen.append(nearest[int(generator.integers(len(nearest)))])
        left.remove(chosen[-1])
    return tuple(sorted(chosen))


def _labelled(
    effects: Estimate,
    groups: Sequence[Group],
    drawn: Sequence[Sequence[Group]],
    norms: Float[np.ndarray, "layer head_index"] | None,
    about: Mapping[str, Any],
) -> MatchedAblations:
    """The effects of the groups asked for, and those of each one's random groups in a row."""
    names = [_name(group) for group in groups]
    n_draws = max(map(len, drawn))
    null, labels = np.full((len(groups), n_draws), np.nan), np.full((len(groups), n_draws), "", dtype=object)
    for place, others in enumerate(drawn):
        labels[place, : len(others)] = [_name(other) for other in others]
        null[place, : len(others)] = effects.value.sel(group=labels[place, : len(others)].tolist())
    coordinates = {"group": names, "drawn": (("group", "draw"), labels.astype(str))}
    written = None if norms is None else xr.DataArray(norms, dims=("layer", "head"), name="head_output_norm")
    examples = None if effects.examples is None else effects.examples.sel(group=names)
    effect = Estimate(
        effects.value.sel(group=names).assign_attrs(about),
        effects.stderr.sel(group=names),
        effects.n_examples,
        examples,
        effects.undefined,
    )
    return MatchedAblations(effect, xr.DataArray(null, coordinates, ("group", "draw"), "null", about), written)


def _name(group: Group) -> str:
    return "+".join(map(str, group))
