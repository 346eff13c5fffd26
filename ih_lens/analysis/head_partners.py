"""Shares of what a head does that earlier parts of the model carry, with their spread over examples."""

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from ih_lens.errors import InputError
from ih_lens.statistics import standard_error

_VARIABLES = {"k": "key", "q": "query", "v": "value"}
COMPOSITIONS = {"k": "K-composition", "q": "Q-composition", "v": "V-composition"}
_CONTROL_COLUMNS = ("control", "control_std", "n_controls")
PREVIOUS, OTHER, REST = "previous token", "other K-composition", "all else"


def match_shares(terms: xr.Dataset) -> pd.DataFrame:
    """What share each term has in a head's match, on the side of its keys and of its queries, and in what it copies.

    Args:
        terms: result of `match_terms`.

    Returns:
        One row per side ("k", "q", "v") and term, largest first within each side: `contribution` (score without unit;
        logits for "v") with `stderr` over examples, `share` of the whole with `share_stderr`. Shares are NaN where the
        whole is not above 0.

    Raises:
        InputError: if these are no terms of a match.

    Examples:
        >>> match_shares(match_terms(model, "L1H4")).query("side == 'k'").head(1)
          side  term  contribution  stderr  share  share_stderr
        0    k  L0H3          9.42    0.11   0.83          0.01
    """
    _check(terms)
    tables = []
    for side, variable in _VARIABLES.items():
        parts = terms[variable].transpose("example", f"{variable}_term").to_numpy()
        whole = parts.sum(axis=1) if side == "v" else terms["match"].to_numpy()
        names = [str(name) for name in terms[f"{variable}_term"].to_numpy()]
        table = pd.DataFrame({"side": side, "term": names, **_shares(parts, whole)})
        tables.append(table.sort_values("contribution", ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def key_composition(terms: xr.Dataset) -> pd.DataFrame:
    """The previous-token term of a head's keys against all other K-composition, and against what no head wrote.

    The previous-token term is what all earlier heads took from the position before, each with the attention that it
    paid there; other K-composition is what they took from anywhere else.

    Args:
        terms: result of `match_terms`.

    Returns:
        Three rows, "previous token", "other K-composition" and "all else", with the columns of `match_shares`; they
        sum to the match.

    Raises:
        InputError: if these are no terms of a match.

    Examples:
        >>> shares = key_composition(match_terms(model, "L1H4")).set_index("term")["share"]
        >>> float(shares["previous token"])
        0.93
    """
    _check(terms)
    previous = terms["key_previous"].transpose("example", "key_term").to_numpy()
    is_head = ~np.isnan(previous).all(axis=0)
    keys, whole = terms["key"].transpose("example", "key_term").to_numpy(), terms["match"].to_numpy()
    from_previous, from_heads = previous[:, is_head].sum(axis=1), keys[:, is_head].sum(axis=1)
    parts = np.stack([from_previous, from_heads - from_previous, keys[:, ~is_head].sum(axis=1)], axis=1)
    return pd.DataFrame({"side": "k", "term": [PREVIOUS, OTHER, REST], **_shares(parts, whole)})


def head_partners(effects: xr.Dataset, controls: xr.DataArray | None = None) -> pd.DataFrame:
    """What share of a head's matching or copying is lost without each source, for every kind of composition.

    Args:
        effects: result of `path_effects`.
        controls: result of `path_controls`, for some pairs.

    Returns:
        One row per kind ("K-composition", "Q-composition", "V-composition") and source, most lost first within each:
        `natural`, `without`, `lost` (the share of `natural`; negative where it grows; NaN where that is not above 0)
        with its `stderr` over examples; and where there are controls `control`, the share that other heads of the same
        size take on average, with `control_std` over them and their number `n_controls`.

    Raises:
        InputError: if these are no effects of `path_effects`.

    Examples:
        >>> head_partners(path_effects(model, "L1H4")).query("kind == 'K-composition'").head(1)
    """
    if not {"natural", "without"} <= set(effects.data_vars):
        raise InputError(f"effects: expected the result of path_effects, got {list(effects.data_vars)}")
    tables = []
    for side in effects["side"].to_numpy():
        natural = effects["natural"].sel(side=side).to_numpy()
        without = effects["without"].sel(side=side).transpose("example", "source").to_numpy()
        shares = _shares(natural[:, None] - without, natural)
        sources = [str(source) for source in effects["source"].to_numpy()]
        rows = {
            "kind": COMPOSITIONS[str(side)],
            "source": sources,
            "natural": float(_mean(natural)),
            "without": _mean(without),
            "lost": shares["share"],
            "stderr": shares["share_stderr"],
        }
        found = [_control(controls, f"{side} {source}", natural) for source in sources]
        columns = {name: [row[place] for row in found] for place, name in enumerate(_CONTROL_COLUMNS)}
        table = pd.DataFrame({**rows, **columns})
        tables.append(table.sort_values("lost", ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def _check(terms: xr.Dataset) -> None:
    if not {*_VARIABLES.values(), "match"} <= set(terms.data_vars):
        raise InputError(f"terms: expected the result of match_terms, got {list(terms.data_vars)}")


def _shares(
    parts: Float[np.ndarray, "example part"], whole: Float[np.ndarray, "example"]
) -> dict[str, Float[np.ndarray, "part"]]:
    """Means over examples, and their ratios to the mean of the whole, with the standard error of a ratio."""
    is_defined = np.isfinite(whole)
    parts, whole = parts[is_defined].astype(np.float64), whole[is_defined].astype(np.float64)
    mean = float(whole.mean()) if len(whole) else np.nan
    mean = mean if mean > 0 else np.nan
    contribution = _mean(parts)
    share = contribution / mean
    errors = standard_error(parts)
    ratio_errors = standard_error((parts - share * whole[:, None]) / mean)
    return {"contribution": contribution, "stderr": errors, "share": share, "share_stderr": ratio_errors}


def _mean(values: Float[np.ndarray, "example *rest"]) -> Float[np.ndarray, "*rest"]:
    """Over the examples that are defined; NaN where none is."""
    is_defined = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    return np.asarray(values[is_defined].mean(axis=0)) if is_defined.any() else np.full(values.shape[1:], np.nan)


def _control(
    controls: xr.DataArray | None, partner: str, natural: Float[np.ndarray, "example"]
) -> tuple[float, float, int]:
    """Mean and deviation over controls of the share that they take, and how many there are."""
    if controls is None or partner not in controls["partner"].to_numpy():
        return np.nan, np.nan, 0
    is_defined = np.isfinite(natural)
    without = controls.sel(partner=partner).transpose("control", "example").to_numpy()[:, is_defined]
    there = without[np.isfinite(without).all(axis=1)]
    if not there.size or natural[is_defined].mean() <= 0:
        return np.nan, np.nan, 0
    lost = 1 - there.mean(axis=1) / natural[is_defined].mean()
    return float(lost.mean()), float(lost.std(ddof=1)) if len(lost) > 1 else np.nan, len(lost)
