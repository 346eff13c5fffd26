"""What the paper saw in its table and could not explain, looked for in the results of any run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ih_lens.analysis.ablation_effects import ablation_effects
from ih_lens.analysis.before_and_after import before_and_after_vector
from ih_lens.analysis.head_types import head_types
from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.analysis.loss_spikes import loss_spikes
from ih_lens.analysis.phase_change import PhaseChange
from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.results import AblationLosses, HeadScores, TokenLosses
from ih_lens.types import HeadIndex
from ih_lens.validate import chosen_context_indices

COLUMNS = ["curiosity", "head", "step", "value", "stderr", "reference", "prefix_matching", "copying", "type", "about"]
REVERSING = "reverses the phase change without being an induction head"
OPPOSITE = "induction head with the opposite effect"
ANTI_COPYING = "anti-copying prefix matching"
SKIP_TRIGRAM = "attends by token, whatever the context"
SPIKE = "loss spike"
_SHOWN = ("prefix_matching", "copying")
_VECTOR = "loss change along the before-and-after vector when removed, nats"
_OF_INDUCTION = "; reference: median induction head"


@dataclass(frozen=True)
class Thresholds:
    """What counts as curious; see `curiosities`."""

    prefix_matching: float
    strength: float
    min_stderrs: float
    context_free: float


def curiosities(
    scores: HeadScores,
    losses: TokenLosses,
    ablated: AblationLosses | None = None,
    *,
    change: PhaseChange | None = None,
    context_free: Estimate | None = None,
    prefix_matching: float = 0.3,
    strength: float = 0.5,
    min_stderrs: float = 4.0,
    min_context_free: float = 0.3,
    late: int | None = None,
    early: int | None = None,
    width: int = 3,
) -> pd.DataFrame:
    """Heads and events of a run that the paper's account of induction heads does not cover.

    - Reverses the phase change without being an induction head: removing it moves the losses back along the
      before-and-after vector at least `strength` times as far as removing the median induction head does, and its
      prefix matching lies below the threshold. Previous-token heads are found too where all that follows from an
      ablation was recomputed (`kind="full"`): the column `type` tells.
    - Induction head with the opposite effect: removing it lowers the in-context learning score, or moves the losses on
      along the before-and-after vector.
    - Anti-copying prefix matching: prefix matching above the threshold, and a copying score below zero.
    - Attends by token, whatever the context: `context_free` above its threshold, as a skip-trigram head.
    - Loss spike: see `loss_spikes`.

    Everything about heads is of the last snapshot. An effect counts if it is at least `min_stderrs` of its standard
    errors; as many heads are looked at, two would be too few.

    Args:
        scores: prefix_matching, copying and previous_token of every head, also stacked over snapshots.
        losses: of the unablated model, stacked over snapshots.
        ablated: of every head by itself, stacked over the same snapshots, or of the last one alone.
        change: from `phase_change` over these snapshots; without one (or none found) what needs it is left out.
        context_free: result of `context_free_attention`.
        prefix_matching: 0 to 1, as for `head_types`.
        strength: share of the median induction head's effect.
        min_stderrs: how far from zero an effect or a score must be; scores whose spread was not kept need only be
            beyond it.
        min_context_free: threshold, 0 to 1.
        late: of the in-context learning score; by default the paper's, scaled to the context.
        early: of the in-context learning score.
        width: of `loss_spikes`.

    Returns:
        One row per finding: `curiosity`, `head` ("" for events), `step`, `value` (effect in nats, score, or height in
        nats) with `stderr`, `reference` (what it was compared with, in the same unit), `prefix_matching`, `copying`
        and `type` of the head, and `about`, which says what the value is. `attrs` hold what was not looked for and why
        (`left_out`), and the thresholds.

    Raises:
        FingerprintError: if losses and ablations are of different examples.
        InputError: if a measure is missing, or snapshots do not fit.

    Examples:
        >>> curiosities(scores, losses, ablated, change=change)[["curiosity", "head", "value", "stderr"]]

    From the paper's Unexplained Curiosities and its appendix on copying.
    """
    limits = Thresholds(prefix_matching, strength, min_stderrs, min_context_free)
    on_score: Estimate | str = "needs ablated"
    on_vector: Estimate | str = "needs ablated"
    if ablated is not None:
        end, last = _last_losses(losses), _last_ablations(ablated)
        n_pos = losses.dataset.sizes["context_index"] + 1
        indices: dict[str, Any] = {**chosen_context_indices(n_pos, early=early, late=late)}
        on_score = ablation_effects(last, end, on="in_context_learning", **indices)
        on_vector = _effects_on_vector(last, end, losses, change)
    return find_curiosities(scores, losses, on_score, on_vector, context_free, limits, width=width)


def find_curiosities(
    scores: HeadScores,
    losses: TokenLosses,
    on_score: Estimate | str,
    on_vector: Estimate | str,
    context_free: Estimate | None,
    limits: Thresholds,
    *,
    width: int,
) -> pd.DataFrame:
    """As `curiosities`, from effects [layer, head] of ablations in the last snapshot, or the reason why there are none.

    Effects whose standard error is NaN need only be beyond their threshold.
    """
    heads = _heads(scores, head_types(scores, prefix_matching=limits.prefix_matching))
    rows = [*_anti_copying(scores, heads, limits), *_context_free(context_free, heads, limits)]
    left_out: dict[str, str] = {} if context_free is not None else {SKIP_TRIGRAM: "needs context_free"}
    if isinstance(on_score, str):
        left_out[OPPOSITE] = on_score
    else:
        rows += _opposite(on_score, heads, limits, "score")
    if isinstance(on_vector, str):
        left_out[REVERSING] = on_vector
    else:
        rows += [*_reversing(on_vector, heads, limits), *_opposite(on_vector, heads, limits, "vector")]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["step"] = float(np.ravel(losses.dataset["step"])[-1]) if "step" in losses.dataset.coords else np.nan
    spikes = _spikes(losses, width, left_out)
    table = pd.concat([part for part in (table, spikes) if len(part)] or [table], ignore_index=True)
    table.attrs = {"left_out": left_out, **vars(limits), "width": width}
    return table


def _effects_on_vector(
    last: AblationLosses, end: TokenLosses, losses: TokenLosses, change: PhaseChange | None
) -> Estimate | str:
    """Effects along the before-and-after vector, or why there are none."""
    if change is None or change.start_index is None or change.end_index is None:
        return "needs a phase change" if change is None else change.reason
    places = (change.start_index, change.end_index)
    if max(places) >= losses.random_token.sizes.get("snapshot", 0):
        raise InputError("change: it was found on other snapshots than those of the losses; pass theirs")
    before, after = (TokenLosses(losses.dataset.isel(snapshot=place)) for place in places)
    return ablation_effects(last, end, on="before_and_after", vector=before_and_after_vector(before, after))


def _heads(scores: HeadScores, types: xr.DataArray) -> xr.Dataset:
    """What the table says of every head."""
    kept = {name: last_snapshot(scores[name]).drop_vars(["step", "tokens_elapsed"], errors="ignore") for name in _SHOWN}
    return xr.Dataset({**kept, "type": types})


def _rows(
    curiosity: str, estimate: Estimate, which: xr.DataArray, heads: xr.Dataset, about: str, reference: float
) -> list[dict[str, Any]]:
    """A row for each head of a mask, the one with the largest value first."""
    found: list[dict[str, Any]] = []
    for layer, head in np.argwhere(which.transpose("layer", "head").to_numpy()).tolist():
        own = heads.isel(layer=layer, head=head)
        found.append(
            {
                "curiosity": curiosity,
                "head": str(HeadIndex(layer, head)),
                "step": np.nan,
                "value": float(estimate.value.isel(layer=layer, head=head)),
                "stderr": float(estimate.stderr.isel(layer=layer, head=head)),
                "reference": reference,
                "prefix_matching": float(own["prefix_matching"]),
                "copying": float(own["copying"]),
                "type": str(own["type"].item()),
                "about": about,
            }
        )
    return sorted(found, key=lambda row: -abs(row["value"]))


def _reversing(moved: Estimate, heads: xr.Dataset, limits: Thresholds) -> list[dict[str, Any]]:
    """Heads whose removal undoes the phase change as that of induction heads does, which they are not."""
    effects = moved.value
    usual = float(effects.where(heads["type"] == "induction").median())
    which = (effects < 0) & ~(effects > -limits.min_stderrs * moved.stderr)
    which &= ~(heads["prefix_matching"] >= limits.prefix_matching)
    if not usual < 0:
        return _rows(REVERSING, moved, which, heads, _VECTOR + "; no induction head undoes it", usual)
    return _rows(REVERSING, moved, which & (effects <= limits.strength * usual), heads, _VECTOR + _OF_INDUCTION, usual)


def _opposite(effects: Estimate, heads: xr.Dataset, limits: Thresholds, on: str) -> list[dict[str, Any]]:
    """Induction heads whose removal does the contrary of what it should."""
    sign = 1 if on == "vector" else -1
    is_induction = heads["type"] == "induction"
    contrary = sign * effects.value
    which = is_induction & (contrary > 0) & ~(contrary < limits.min_stderrs * effects.stderr)
    about = _VECTOR if on == "vector" else "change of the in-context learning score when removed, nats"
    usual = float(effects.value.where(is_induction).median())
    return _rows(OPPOSITE, effects, which, heads, about + _OF_INDUCTION, usual)


def _anti_copying(scores: HeadScores, heads: xr.Dataset, limits: Thresholds) -> list[dict[str, Any]]:
    """Heads that match prefixes and lower the token that they attend to."""
    value = heads["copying"]
    stderr = xr.full_like(value, np.nan)
    if scores.spread is not None:
        stderr = last_snapshot(scores.stderr("copying")).drop_vars(["step", "tokens_elapsed"], errors="ignore")
    which = (heads["prefix_matching"] >= limits.prefix_matching) & (value < 0)
    which &= ~(-value < limits.min_stderrs * stderr)
    return _rows(ANTI_COPYING, Estimate(value, stderr, 0), which, heads, "copying score, -1 to 1", 0.0)


def _context_free(estimate: Estimate | None, heads: xr.Dataset, limits: Thresholds) -> list[dict[str, Any]]:
    """Heads that attend to tokens by what they are."""
    if estimate is None:
        return []
    which = (estimate.value >= limits.context_free) & ~(estimate.value < limits.min_stderrs * estimate.stderr)
    about = "attention that follows tokens less that which follows positions, -1 to 1"
    return _rows(SKIP_TRIGRAM, estimate, which, heads, about, limits.context_free)


def _spikes(losses: TokenLosses, width: int, left_out: dict[str, str]) -> pd.DataFrame:
    """Loss spikes in the columns of this table."""
    n_snapshots = losses.random_token.sizes.get("snapshot", 1)
    if n_snapshots < 2 * width + 1:
        left_out[SPIKE] = f"needs {2 * width + 1} snapshots; there are {n_snapshots}"
        return pd.DataFrame(columns=COLUMNS)
    spikes = loss_spikes(losses, width=width)
    shown = pd.DataFrame({"curiosity": SPIKE, "head": "", "step": spikes["step"], "value": spikes["height"]})
    shown["stderr"], shown["reference"] = spikes["stderr"], spikes.attrs["scatter"]
    shown["prefix_matching"], shown["copying"], shown["type"] = np.nan, np.nan, ""
    shown["about"] = [
        "height above the running median, nats; reference: scatter of the curve; "
        + ("never recovered" if np.isnan(step) else f"recovered at step {step:g}")
        for step in spikes["recovered"]
    ]
    return shown


def _last_losses(losses: TokenLosses) -> TokenLosses:
    has_snapshots = "snapshot" in losses.dataset.dims
    return TokenLosses(losses.dataset.isel(snapshot=-1)) if has_snapshots else losses


def _last_ablations(ablated: AblationLosses) -> AblationLosses:
    if "layer" not in ablated.dataset.dims:
        raise InputError("ablated: expected every head ablated by itself, [layer, head]; leave out heads=")
    has_snapshots = "snapshot" in ablated.dataset.dims
    return AblationLosses(ablated.dataset.isel(snapshot=-1)) if has_snapshots else ablated
