"""A model as it was measured: its snapshots' results, read from the store when they are needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import Any

import xarray as xr

from ih_lens.analysis.head_types import head_types
from ih_lens.analysis.in_context_learning import in_context_learning_score
from ih_lens.analysis.phase_change import PhaseChange, phase_change
from ih_lens.errors import DamagedFileError
from ih_lens.report.form import Form
from ih_lens.report.store import MeasurementStore
from ih_lens.results import AblationLosses, HeadScores, TokenLosses, label_snapshots, stack_snapshots


@dataclass(frozen=True)
class MeasuredModel:
    """Everything that the analyses of one column of the table start from.

    Attributes:
        name: the model's name in the table.
        description: what it is (layers, heads, seed, ...), ready for JSON.
        steps: optimiser steps of its snapshots, ascending.
        tokens_elapsed: training tokens seen by each snapshot.
        keys: per measurement, the store's key for each snapshot and the form of what lies there; a measurement that
            was not taken is absent.
        store: where they lie.
        scoring: `early`, `late` and `window` of the in-context learning score.
    """

    name: str
    description: Mapping[str, Any]
    steps: Sequence[int]
    tokens_elapsed: Sequence[int]
    keys: Mapping[str, Sequence[tuple[str, Form]]]
    store: MeasurementStore
    scoring: Mapping[str, int]

    @cached_property
    def losses(self) -> TokenLosses:
        """Losses of the unablated model, [snapshot, ...]."""
        return stack_snapshots(
            [TokenLosses(entry) for entry in self.entries("losses")], self.steps, self.tokens_elapsed
        )

    @cached_property
    def head_scores(self) -> HeadScores:
        """All head evaluators, [snapshot, layer, head]."""
        entries = [HeadScores(entry) for entry in self.entries("head_scores")]
        return stack_snapshots(entries, self.steps, self.tokens_elapsed)

    @cached_property
    def in_context_learning(self) -> xr.DataArray:
        """The in-context learning score, [snapshot], with its standard error."""
        return in_context_learning_score(self.losses, **self.scoring)

    @cached_property
    def phase_change(self) -> PhaseChange:
        """Where the in-context learning score fell, in training tokens."""
        return phase_change(self.tokens_elapsed, self.in_context_learning)

    @cached_property
    def head_types(self) -> xr.DataArray:
        """Type of every head in the last snapshot, [layer, head]."""
        return head_types(self.head_scores)

    def at_snapshot(self, index: int) -> TokenLosses:
        """Unablated losses of one snapshot."""
        return TokenLosses(self.losses.dataset.isel(snapshot=index))

    def ablations(self) -> Iterator[tuple[AblationLosses, TokenLosses]]:
        """Per snapshot the ablated and the unablated losses; one at a time, because they are large."""
        for index, entry in enumerate(self.entries("ablation")):
            yield AblationLosses(entry), self.at_snapshot(index)

    def over_snapshots(self, values: Sequence[xr.DataArray]) -> xr.DataArray:
        """Join one result per snapshot, labelled with steps and tokens."""
        plain = [value.drop_vars(["step", "tokens_elapsed"], errors="ignore") for value in values]
        joined = xr.concat(plain, dim="snapshot", combine_attrs="drop_conflicts")
        return label_snapshots(joined, self.steps, self.tokens_elapsed)

    def read(self, key: str, form: Form) -> xr.Dataset:
        """One entry of the store, which was there when the table was planned."""
        entry = self.store.read(key, form)
        if entry is None:
            raise DamagedFileError(f"{self.store.path(key)} vanished while the table was made; make it again")
        return entry

    def entries(self, measurement: str) -> Iterator[xr.Dataset]:
        """What one measurement stored for each snapshot."""
        yield from starmap(self.read, self.keys[measurement])
