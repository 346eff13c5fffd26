"""What makes a head an induction head, in one call: measures its paths and says what carries its match."""

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import xarray as xr
from torch import Tensor

from ih_lens.analysis.head_partners import COMPOSITIONS, head_partners, key_composition, match_shares
from ih_lens.measure.match_terms import match_terms
from ih_lens.measure.path_effects import ALL_HEADS, ALL_PREVIOUS, path_controls, path_effects
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import at_least, head_index

_NO_MATCH = 0.1
"""Prefix matching under which there is no match worth explaining; uniform attention gives about 0.06."""
_CARRIES = 0.1
"""The least share that is worth a sentence."""


_GROUPS = {ALL_HEADS: "all earlier heads", ALL_PREVIOUS: "what all earlier heads took from the previous token"}


@dataclass(frozen=True, repr=False, eq=False)
class HeadExplanation:
    """What carries a head's match, and what it copies.

    Attributes:
        head: which.
        partners: result of `head_partners`: for every earlier head and kind of composition the share of the head's
            prefix matching (K, Q) or copied logit (V) that is lost without it on that path alone, with
            controls for the strongest.
        terms: result of `match_terms`: the exact split of the attention scores behind the match.
        attrs: how it was measured.
    """

    head: HeadIndex
    partners: pd.DataFrame
    terms: xr.Dataset
    attrs: dict[str, Any]

    @property
    def prefix_matching(self) -> float:
        """The head's own score."""
        return float(self.terms["prefix_matching"].mean())

    @property
    def copied_first(self) -> float:
        """The share of queries at which the head raises the token at its targets more than any other."""
        return float(self.terms["copied_first"].mean())

    def strongest(self, kind: str, k: int = 3) -> pd.DataFrame:
        """The single heads that matter most on one kind of path, "k", "q" or "v"."""
        return self._rows(kind, together=False).head(k).reset_index(drop=True)

    def together(self, kind: str) -> pd.DataFrame:
        """What all earlier heads carry together on one kind of path, and what they took from the previous token."""
        return self._rows(kind, together=True).reset_index(drop=True)

    def _rows(self, kind: str, *, together: bool) -> pd.DataFrame:
        is_group = self.partners["source"].isin(list(_GROUPS))
        chosen = (self.partners["kind"] == COMPOSITIONS[kind]) & (is_group == together)
        return self.partners.loc[chosen]

    def to_dataframe(self) -> pd.DataFrame:
        """`partners`, with `score_share`: each source's exact share in the match (K, Q) or in the copied logit (V).

        Examples:
            >>> explain_head(model, "L5H5").to_dataframe().head(3)
        """
        shares: Any = match_shares(self.terms).set_index(["side", "term"])["share"]
        composed: Any = key_composition(self.terms).set_index("term")["share"]
        sides = {kind: side for side, kind in COMPOSITIONS.items()}

        def share(row: Any) -> float:
            if row.source == ALL_PREVIOUS:
                return float(composed.iloc[0]) if row.kind == COMPOSITIONS["k"] else float("nan")
            if row.source == ALL_HEADS:
                of_side = shares[sides[row.kind]]
                return float(of_side[of_side.index.isin(self.partners["source"])].sum())
            return float(shares[(sides[row.kind], row.source)])

        return self.partners.assign(score_share=[share(row) for row in _each(self.partners)])

    def to_html(self) -> str:
        """Sentences and the strongest partners as HTML without any link to elsewhere."""
        sentences = "".join(f"<li>{escape(line)}</li>" for line in self.lines())
        table = pd.concat([self.strongest(kind) for kind in COMPOSITIONS], ignore_index=True)
        return f"<ul>{sentences}</ul>{table.to_html(index=False, float_format='{:.3f}'.format, border=0)}"

    def lines(self) -> list[str]:
        """What was found, in sentences; the first one says what carries the match."""
        return _sentences(self)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return self.to_html()


def explain_head(
    model: ModelLike,
    head: HeadSpelling,
    tokens: Tensor | None = None,
    *,
    n_partners: int = 3,
    n_controls: int = 8,
    replace: str = "zero",
    ln_scale: str = "recomputed",
    n_examples: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> HeadExplanation:
    """Which earlier heads make this an induction head: what they carry of its match, and by which kind of composition.

    Two measures stand beside each other. Causal: the output of an earlier head is taken out of the keys
    (K-composition), the queries (Q) or the values (V) of this head alone, and the share of its prefix matching, or of
    its copied logit, that is lost is what it carries (`path_effects`); outputs of other heads, scaled to the same size,
    are the control. Exact: the attention scores behind the match as a sum of terms (`match_terms`).

    Args:
        model: a HookedTransformer.
        head: which, like "L5H5".
        tokens: ids [example, pos] with repeats; by default repeated random tokens as for prefix matching.
        n_partners: for how many heads of each kind controls are measured.
        n_controls: other heads for each of them.
        replace: what is left of a head's output that is taken out: "zero", or "mean".
        ln_scale: "recomputed" normalises what is left anew, "frozen" keeps the norm's scale.
        n_examples: of the random tokens; standard errors are over examples.
        seed: of the random tokens and of the choice of controls.
        batch_size: examples per run of the model; the result does not depend on it.

    Returns:
        An explanation that prints as sentences, with `.partners`, `.terms`, `.strongest("k")`, `.to_dataframe()` and
        `.to_html()`.

    Raises:
        CapabilityError: if the model's attention scores are no sums of terms.
        InputError: if the head does not exist, no token recurs, or weights or tokens cannot be used.

    Examples:
        >>> explain_head(model, "L5H5")
        L5H5: K-composition with L4H11 carries 71 ± 1 % of its match (prefix matching 0.93, without it 0.27).
    """
    at_least("n_partners", n_partners, 1)
    found = head_index(head, model.cfg.n_layers, model.cfg.n_heads)
    settings: dict[str, Any] = {"n_examples": n_examples, "seed": seed, "batch_size": batch_size}
    removal: dict[str, Any] = {"replace": replace, "ln_scale": ln_scale, **settings}
    effects = path_effects(model, found, tokens, **removal)
    terms = match_terms(model, found, tokens, **settings)
    explanation = HeadExplanation(found, head_partners(effects), terms, {**effects.attrs, "measure": "explain_head"})
    strongest = [(side, row.source) for side in COMPOSITIONS for row in _each(explanation.strongest(side, n_partners))]
    if not strongest:
        return explanation
    pairs: list[tuple[str, HeadSpelling]] = [(side, str(source)) for side, source in strongest]
    controls = path_controls(model, found, pairs, tokens, n_controls=n_controls, **removal)
    return HeadExplanation(found, head_partners(effects, controls), terms, explanation.attrs)


def _sentences(told: HeadExplanation) -> list[str]:
    """The verdict first, then what it rests on."""
    score = told.prefix_matching
    if not score >= _NO_MATCH:
        return [f"{told.head}: no match to explain (prefix matching {score:.2f})."]
    if told.partners.empty:
        terms = match_shares(told.terms).query("side == 'k'").head(2)
        of_keys = ", ".join(f"{row.term} {_percent(row.share, None)}" for row in _each(terms))
        return [
            f"{told.head}: in the first layer, so it composes with no head (prefix matching {score:.2f}).",
            f"  Keys: {of_keys} of the score at its targets.",
            *_copying(told),
        ]
    lines = [_verdict(told), *_control(told)]
    composed = key_composition(told.terms)
    shares = ", ".join(f"{row.term} {_percent(row.share, None)}" for row in _each(composed))
    lines.append(f"  Score at its targets, by what is in the keys: {shares}{_largest_other(told)}.")
    lines += [
        f"  {COMPOSITIONS[kind]}: {_listed(pd.concat([told.strongest(kind), told.together(kind)]))}."
        for kind in ("k", "q")
    ]
    return [*lines, *_copying(told)]


def _verdict(told: HeadExplanation) -> str:
    """What carries the match: a single head, or all of them together where none does by itself."""
    best = _best(told)
    together = pd.concat([told.together(kind) for kind in ("k", "q")]).sort_values("lost", ascending=False)
    group: Any = together.iloc[0]
    where = f"prefix matching {told.prefix_matching:.2f}, without it"
    by_itself = f"{best.kind} with {best.source} carries {_percent(best.lost, best.stderr)}"
    if best.lost >= max(_CARRIES, group.lost / 2):
        return f"{told.head}: {by_itself} of its match ({where} {best.without:.2f})."
    if group.lost >= _CARRIES:
        what = _GROUPS[group.source]
        carried = f"{group.kind} with {what} carries {_percent(group.lost, group.stderr)} of its match"
        return f"{told.head}: {carried} ({where} {group.without:.2f}); {by_itself} by itself."
    return f"{told.head}: no earlier head carries its match ({by_itself}; prefix matching {told.prefix_matching:.2f})."


def _largest_other(told: HeadExplanation) -> str:
    """The term of the keys that is no head and matters most, if it matters."""
    keys = match_shares(told.terms).query("side == 'k'")
    largest: Any = keys[~keys["term"].isin(told.partners["source"])].iloc[0]
    return f" (of it {largest.term} {_percent(largest.share, None)})" if largest.share >= _CARRIES else ""


def _control(told: HeadExplanation) -> list[str]:
    best = _best(told)
    if not best.n_controls:
        return []
    took = _percent(best.control, best.control_std)
    return [f"  Control: other heads' outputs, at the size of {best.source}'s, take {took} ({best.n_controls} heads)."]


def _best(told: HeadExplanation) -> Any:
    """The single head that carries most of the match."""
    rows = pd.concat([told.strongest("k", 1), told.strongest("q", 1)])
    return rows.sort_values("lost", ascending=False, kind="stable").iloc[0]


def _copying(told: HeadExplanation) -> list[str]:
    """What the head copies, and from which heads it reads that."""
    if not told.terms["value"].notnull().any():
        return ["  What it copies is not defined: its logits are no sums over heads."]
    values: Any = match_shares(told.terms).query("side == 'v'").iloc[0]
    first = f"raises the token at its targets more than any other at {_percent(told.copied_first, None)} of the queries"
    source = (
        f"{_percent(values.share, None)} of that logit from {values.term}"
        if values.share > 0
        else "does not raise its logit"
    )
    partners = told.strongest("v").dropna(subset=["lost"])  # there are no shares of a logit that it lowers
    composed = "" if partners.empty else f" {COMPOSITIONS['v']}: {_listed(partners)}."
    return [f"  Copying: {first}; {source}.{composed}"]


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(f"{row.source} {_percent(row.lost, row.stderr)}" for row in _each(rows))


def _percent(share: Any, error: Any) -> str:
    percent = str(round(100 * share))  # an integer, because a float can be -0
    if pd.isna(error):
        return f"{percent} %"
    return f"{percent} ± {100 * error:.0f} %" if error >= 0.01 else f"{percent} ± {100 * error:.1g} %"


def _each(rows: pd.DataFrame) -> list[Any]:
    """Rows with their columns as attributes."""
    return list(rows.itertuples())
