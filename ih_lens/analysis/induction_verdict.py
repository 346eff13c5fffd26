"""Whether heads are induction heads: by their match at several periods where no fixed distance would do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.estimates import Estimate
from ih_lens.types import HeadIndex
from ih_lens.validate import at_least, number, proportion

VERDICTS = ("induction", "positional", "unclear", "other")
"""What a head may be called, in the order in which it is tried."""
LEAST_PERIODS = 3


@dataclass(frozen=True)
class InductionVerdict:
    """What each head is, and the scores that say so.

    Attributes:
        kind: [layer, head], one of "induction", "positional", "unclear" and "other"; see `judge_induction`.
        scattered: prefix matching on copies at random distances, [period, layer, head].
        repeated: prefix matching on copies right after each other, at the same periods and at those that some head
            would solve by always looking equally far back.

    Examples:
        >>> verdict = induction_verdict(model)
        >>> verdict.is_induction_model, verdict.heads  # (True, [L5H1, L5H5])
        >>> table = verdict.to_dataframe()
    """

    kind: xr.DataArray
    scattered: Estimate
    repeated: Estimate

    @property
    def is_induction_model(self) -> bool:
        """Whether any head is an induction head."""
        return bool(self.heads)

    @property
    def heads(self) -> list[HeadIndex]:
        """The induction heads, the one with the highest minimum first."""
        return self._of_kind("induction", self.minimum)

    @property
    def positional_heads(self) -> list[HeadIndex]:
        """Heads that match at some period, but only where the distance is always the same; the strongest first."""
        return self._of_kind("positional", self.repeated.value.max("period"))

    @property
    def periods(self) -> list[int]:
        """Those of the copies at random distances."""
        return [int(period) for period in self.scattered.value["period"]]

    @property
    def minimum(self) -> xr.DataArray:
        """The lowest prefix matching over the periods with random distances, [layer, head]; 0 to 1."""
        return self.scattered.value.min("period", skipna=False)

    @property
    def spread(self) -> xr.DataArray:
        """The highest less the lowest of them, [layer, head]; 0 to 1."""
        return self.scattered.value.max("period", skipna=False) - self.minimum

    @property
    def stderr(self) -> xr.DataArray:
        """Standard error over examples of the minimum, at the period where it is taken."""
        filled = self.scattered.value.fillna(np.inf)
        return self.scattered.stderr.isel(period=filled.argmin("period")).drop_vars("period")

    def to_dataframe(self) -> pd.DataFrame:
        """A row per head, the highest minimum first: what it is, minimum, its error, spread, and every period."""
        best = self.repeated.value.fillna(-1.0).argmax("period")
        columns = {
            "kind": self.kind,
            "minimum": self.minimum,
            "stderr": self.stderr,
            "spread": self.spread,
            "best_repeated": self.repeated.value.isel(period=best).drop_vars("period"),
            "best_repeated_period": self.repeated.value["period"].isel(period=best).drop_vars("period"),
            **{
                f"scattered_{period}": self.scattered.value.sel(period=period).drop_vars("period")
                for period in self.periods
            },
        }
        table = xr.Dataset(columns).to_dataframe().reset_index()
        return table.sort_values("minimum", ascending=False, kind="stable", ignore_index=True)

    def __str__(self) -> str:
        periods = ", ".join(map(str, self.periods))
        if self.heads:
            lowest = ", ".join(f"{head} ({self.minimum.sel(layer=head[0], head=head[1]):.2f})" for head in self.heads)
            found = (
                f"an induction model: at random distances and all of the periods {periods}, prefixes are matched by "
            )
            return f"{found}{lowest}; in brackets the lowest score"
        found = f"no induction model: no head matches prefixes at random distances and all of the periods {periods}"
        if not self.positional_heads:
            return found
        named = ", ".join(f"{head} (period {self._best_period(head)})" for head in self.positional_heads)
        verb = "match" if len(self.positional_heads) > 1 else "matches"
        return f"{found}; {named} {verb} by position, at fixed distances only"

    def _best_period(self, head: HeadIndex) -> int:
        scores = self.repeated.value.sel(layer=head[0], head=head[1])
        return int(scores["period"][int(scores.argmax("period"))])

    def _of_kind(self, kind: str, strength: xr.DataArray) -> list[HeadIndex]:
        grid = strength.transpose("layer", "head").to_numpy()
        places = np.argwhere((self.kind.transpose("layer", "head") == kind).to_numpy())
        return [HeadIndex(*map(int, place)) for place in sorted(places, key=lambda place: -grid[tuple(place)])]


def judge_induction(
    scattered: Estimate, repeated: Estimate, *, threshold: float = 0.3, min_stderrs: float = 2.0
) -> InductionVerdict:
    """What each head is, from its prefix matching at several periods.

    A head is "induction" if its score on copies at random distances reaches the threshold at every period, by
    `min_stderrs` standard errors; "unclear" if it reaches it at every period within these errors only; else
    "positional" if its score on copies right after each other reaches the threshold (by these errors) at some period:
    there, and only there, counting back does what induction does; else "other". Scores that are not defined
    reach nothing.

    Args:
        scattered: [period, layer, head] on copies at random distances, of `prefix_matching_by_period`.
        repeated: the same with `scattered=False`, at these periods and any others.
        threshold: 0 to 1.
        min_stderrs: how many standard errors over examples a score must be away from the threshold.

    Raises:
        InputError: if there are fewer than three periods, or a threshold outside 0 to 1.

    Examples:
        >>> judge_induction(prefix_matching_by_period(model), prefix_matching_by_period(model, scattered=False))
    """
    at_least("number of periods", scattered.value.sizes["period"], LEAST_PERIODS)
    proportion("threshold", threshold)
    if number("min_stderrs", min_stderrs) < 0:
        raise InputError(f"min_stderrs: expected at least 0, got {min_stderrs}")
    margin, margin_repeated = (min_stderrs * estimate.stderr for estimate in (scattered, repeated))
    surely = (scattered.value - margin >= threshold).all("period")
    perhaps = (scattered.value + margin >= threshold).all("period")
    by_position = (repeated.value - margin_repeated >= threshold).any("period")
    order = ("layer", "head")
    conditions = [surely, by_position & ~perhaps, perhaps]
    names = np.select([found.transpose(*order).to_numpy() for found in conditions], list(VERDICTS[:-1]), VERDICTS[-1])
    coordinates = {dim: scattered.value[dim] for dim in order}
    kind = xr.DataArray(names, coordinates, order, "kind", {"threshold": threshold, "min_stderrs": min_stderrs})
    return InductionVerdict(kind, scattered, repeated)
