"""The curiosities of every model in a Model Analysis Table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ih_lens.analysis.curiosities import Thresholds, find_curiosities
from ih_lens.estimates import Estimate
from ih_lens.report.model_data import reasons_of, values_of
from ih_lens.report.table import ModelAnalysisTable
from ih_lens.results import HeadScores, TokenLosses

_SCORES = ["prefix_matching", "copying", "previous_token"]


def table_curiosities(
    table: ModelAnalysisTable,
    *,
    context_free: Mapping[str, Estimate] | None = None,
    prefix_matching: float = 0.3,
    strength: float = 0.5,
    min_stderrs: float = 4.0,
    min_context_free: float = 0.3,
    width: int = 3,
) -> pd.DataFrame:
    """What `curiosities` finds in each model of a table, from the table's numbers alone.

    A table keeps no spread of copying scores and of effects along the before-and-after vector: those are NaN here, and
    need only be beyond their thresholds. What stands out is worth a look with `curiosities` and its standard errors.

    Args:
        table: with ablations, and the rows of the paper.
        context_free: results of `context_free_attention` by model.
        prefix_matching: as `curiosities`.
        strength: as `curiosities`.
        min_stderrs: as `curiosities`, where the spread is known.
        min_context_free: as `curiosities`.
        width: as `curiosities`.

    Returns:
        The rows of `curiosities` with a column `model` before them. `attrs["left_out"]` says by model what was not
        looked for, and why.

    Examples:
        >>> table_curiosities(table)[["model", "curiosity", "head", "value", "stderr"]]
    """
    limits = Thresholds(prefix_matching, strength, min_stderrs, min_context_free)
    found: dict[str, pd.DataFrame] = {}
    for model, dataset in table.datasets.items():
        on_score, on_vector = (
            _effects(dataset, f"ablation_{name}") for name in ("in_context_learning", "before_and_after")
        )
        scores = HeadScores(dataset[_SCORES].drop_attrs())
        losses = TokenLosses(dataset[["random_token"]].drop_attrs())
        follows = (context_free or {}).get(model)
        found[model] = find_curiosities(scores, losses, on_score, on_vector, follows, limits, width=width)
    rows = [part.assign(model=model) for model, part in found.items() if len(part)]
    joined = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(next(iter(found.values()))).assign(model="")
    columns = ["model", *(name for name in joined.columns if name != "model")]
    ordered = joined.loc[:, columns]
    ordered.attrs = {"left_out": {model: part.attrs["left_out"] for model, part in found.items()}, **vars(limits)}
    return ordered


def _effects(dataset: xr.Dataset, row: str) -> Estimate | str:
    """The effects of a row in the last snapshot, or why there are none."""
    values = values_of(dataset, row)
    if values is None:
        return reasons_of(dataset).get(row, f"the table has no row {row}")
    last = values.isel(snapshot=-1)
    stderr = last["stderr"] if "stderr" in last.coords else xr.full_like(last, np.nan)
    return Estimate(last.drop_vars("stderr", errors="ignore"), stderr.drop_vars("stderr", errors="ignore"), 0)
