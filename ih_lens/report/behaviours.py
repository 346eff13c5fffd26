"""Heads against behaviours: measures both, and puts them side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ih_lens.measure.behaviours import BEHAVIOURS, Behaviour, LiteralCopying, PatternMatching, Translation
from ih_lens.measure.score_behaviours import EXCESS, score_behaviours
from ih_lens.measure.score_heads import score_heads
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex, ModelLike
from ih_lens.validate import one_of
from ih_lens.viz.behaviours import plot_behaviours

_INDUCTION = ("prefix_matching", "copying")
_COLUMNS = ("_baseline", f"_{EXCESS}", "_attribution", "_attribution_baseline")


def behaviour_table(
    model: ModelLike,
    *,
    text: Any = None,
    translations: Any = None,
    behaviours: Sequence[str | Behaviour] | None = None,
    seed: int = 0,
    bos: int | str | None = "auto",
    batch_size: int | None = None,
    progress: bool = True,
) -> "BehaviourTable":
    """Which heads copy text, translate or match patterns, beside how well they match prefixes and copy.

    Args:
        model: any HookedTransformer with a tokenizer.
        text: for literal copying: a list of texts, or a file or folder; None for stories made for the project.
        translations: for translation: pairs of texts, or the path of a .tsv or .jsonl file; None for sentences made
            for the project.
        behaviours: which, by name or as objects with parameters of their own, for which `text` and `translations`
            do not count; all of `BEHAVIOURS` by default.
        seed: of all random tokens and examples.
        bos: start token, as in `score_heads`.
        batch_size: examples per run of the model; the result does not depend on it.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        One row per head; `.scores` has every measure with its spread over examples.

    Raises:
        CapabilityError: if the model has no tokenizer, or cannot be scored.
        InputError: if arguments, texts or weights cannot be used.

    Examples:
        >>> table = behaviour_table(load_model("gpt2"))
        >>> table.top("translation", 3)
    """
    own: dict[str, Behaviour] = {
        LiteralCopying.name: LiteralCopying(text=text, bos=bos),
        Translation.name: Translation(pairs=translations, bos=bos),
        PatternMatching.name: PatternMatching(bos=bos),
    }
    asked = [own.get(one, one) if isinstance(one, str) else one for one in behaviours or BEHAVIOURS]
    found = score_behaviours(model, behaviours=asked, seed=seed, batch_size=batch_size, progress=progress)
    induction = score_heads(model, seed=seed, evaluators=list(_INDUCTION), bos=bos, batch_size=batch_size)
    names = tuple(one if isinstance(one, str) else one.name for one in asked)
    return BehaviourTable(names, _joined(induction, found))


@dataclass(frozen=True, repr=False)
class BehaviourTable:
    """Heads against behaviours.

    Attributes:
        behaviours: which ones.
        scores: prefix_matching, copying, and for each behaviour all that `score_behaviours` measures, with its spread
            over examples.

    Examples:
        >>> table = behaviour_table(model)
        >>> table.to_dataframe().sort_values("pattern_matching_excess")
    """

    behaviours: tuple[str, ...]
    scores: HeadScores

    def top(self, behaviour: str, k: int = 5) -> list[tuple[HeadIndex, float]]:
        """The k heads that show a behaviour most above its baseline, with that excess, best first.

        Examples:
            >>> table.top("literal_copying", 3)
        """
        return self.scores.top(f"{one_of('behaviour', behaviour, self.behaviours)}_{EXCESS}", k)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head: prefix matching, copying, and the main measures of each behaviour.

        These are attention, its standard error, its baseline, the excess, and logit attribution with its baseline.

        Examples:
            >>> table.to_dataframe().nlargest(3, "translation_excess")
        """
        columns: dict[str, Any] = {name: self.scores[name].to_series() for name in _INDUCTION}
        for name in self.behaviours:
            columns[name] = self.scores[name].to_series()
            columns[f"{name}_stderr"] = self.scores.stderr(name).to_series()
            columns |= {f"{name}{end}": self.scores[f"{name}{end}"].to_series() for end in _COLUMNS}
        return pd.DataFrame(columns).reset_index()

    def figure(self, **options: Any) -> go.Figure:
        """Every behaviour against prefix matching; options as `ih_lens.viz.plot_behaviours`."""
        return plot_behaviours(self.scores, **options)

    def _strongest(self, k: int) -> pd.DataFrame:
        """The heads that are among the first of some behaviour, rounded, by name."""
        best = dict.fromkeys(head for name in self.behaviours for head, _ in self.top(name, k))
        table = self.to_dataframe()
        table.insert(0, "name", [str(HeadIndex(*place)) for place in zip(table["layer"], table["head"], strict=True)])
        shown = [*_INDUCTION, *(f"{name}{end}" for name in self.behaviours for end in ("", "_baseline"))]
        return table.set_index("name").loc[[str(head) for head in best], shown].round(2)

    def __repr__(self) -> str:
        if not any(self.top(name, 1) for name in self.behaviours):
            return f"BehaviourTable({', '.join(self.behaviours)}; no head has a score)"
        size = f"{self.scores.dataset.sizes['layer']} layers of {self.scores.dataset.sizes['head']} heads"
        return f"BehaviourTable of {size}; the strongest of each:\n{self._strongest(3).to_string()}"

    def _repr_html_(self) -> str:
        return self._strongest(5).to_html()


def _joined(induction: HeadScores, found: HeadScores) -> HeadScores:
    """Both with their spread; what is said of all measures is that of the behaviours."""
    dataset = found.dataset.assign({name: induction[name] for name in _INDUCTION})
    if induction.spread is None or found.spread is None:
        return HeadScores(dataset)
    return HeadScores(dataset, found.spread.joined(induction.spread, _INDUCTION))
