"""Which heads stand out after many were looked at."""

import numpy as np
import pandas as pd
import xarray as xr

from ih_lens.estimates import Estimate
from ih_lens.results import HeadScores
from ih_lens.statistics import corrected, fraction
from ih_lens.types import HeadIndex


def significant_heads(
    p_values: xr.DataArray,
    found: HeadScores | Estimate | None = None,
    *,
    level: float = 0.05,
    correction: str = "benjamini_hochberg",
) -> pd.DataFrame:
    """All heads (or groups) by p-value, with p-values corrected for how many there are.

    Args:
        p_values: of scores or ablation effects, [layer, head], [group] or with snapshots beside; every one that is
            not NaN counts as a test.
        found: what they belong to; its values and standard errors are then shown beside (of scores: the measure that
            the p-values are of).
        level: of significance, after correction.
        correction: "benjamini_hochberg" bounds the expected share of false findings among the significant ones, "holm"
            the probability of a single false one, "none" corrects nothing.

    Returns:
        One row per test, the smallest p-value first: the labels, `head` ("L1H4") where there are layers and heads,
        `value` and `stderr` where `found` is given, `p_value`, `corrected` and `significant`. Its `attrs` hold
        `n_tests`, `level` and `correction`.

    Raises:
        InputError: for another correction, or a level that is none.

    Examples:
        >>> p_values = scores.p_value("prefix_matching", null_scores(model))
        >>> significant_heads(p_values, scores).query("significant")["head"].tolist()
        ['L5H1', 'L5H5', 'L6H9', 'L7H10', 'L7H2']
    """
    fraction("level", level)
    columns = p_values.rename("p_value").reset_coords(drop=True).to_dataset()
    columns["corrected"] = (p_values.dims, corrected(p_values.to_numpy().astype(np.float64), correction))
    measured = found.estimate(_measure(p_values, found)) if isinstance(found, HeadScores) else found
    if measured is not None:
        columns["value"] = (measured.value.dims, measured.value.to_numpy())
        columns["stderr"] = (measured.stderr.dims, measured.stderr.to_numpy())
    table = columns.to_dataframe().reset_index().dropna(subset=["p_value"])
    if {"layer", "head"} <= set(p_values.dims):
        heads = [
            str(HeadIndex(int(layer), int(head))) for layer, head in zip(table["layer"], table["head"], strict=True)
        ]
        table["head"] = heads
    table["significant"] = table["corrected"] <= level
    shown = [*p_values.dims, *(name for name in ("value", "stderr") if name in table), "p_value", "corrected"]
    ordered = table.sort_values("p_value", kind="stable").loc[:, [*shown, "significant"]].reset_index(drop=True)
    ordered.attrs = {"n_tests": len(ordered), "level": level, "correction": correction}
    return ordered


def _measure(p_values: xr.DataArray, scores: HeadScores) -> str:
    return str(p_values.attrs.get("measure", scores.names[0]))
