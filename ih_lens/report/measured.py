"""A model as it was measured: its snapshots' results, read from the store when they are needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xarray as xr

from ih_lens.analysis.head_types import head_types
from ih_lens.analysis.in_context_learning import in_context_learning_score
from ih_lens.analysis.phase_change import PhaseChange, phase_change
from ih_lens.errors import DamagedFileError, InputError
from ih_lens.report.store import MeasurementStore
from ih_lens.results import AblationLosses, HeadScores, TokenLosses, stack_snapshots


@dataclass(frozen=True)
class MeasuredModel:
    """Everything that the analyses of one column of the table start from.

    Attributes:
        name: the model's name in the table.
        description: what it is (layers, heads, seed, ...), ready for JSON.
        steps: optimizer steps of its snapshots, ascending.
        tokens_elapsed: training tokens seen by each snapshot.
        keys: per measurement, the store's key for each snapshot; a measurement that was not taken is absent.
        store: where they lie.
        indices: (early, late) context index of the in-context learning score.
    """

    name: str
    description: Mapping[str, Any]
    steps: Sequence[int]
    tokens_elapsed: Sequence[int]
    keys: Mapping[str, Sequence[str]]
    store: MeasurementStore
    indices: tuple[int, int]

    @cached_property
    def losses(self) -> TokenLosses:
        """Losses of the unablated model, [snapshot, ...]."""
        return stack_snapshots(list(map(TokenLosses, self._entries("losses"))), self.steps, self.tokens_elapsed)

    @cached_property
    def head_scores(self) -> HeadScores:
        """All head evaluators, [snapshot, layer, head]."""
        return stack_snapshots(list(map(HeadScores, self._entries("head_scores"))), self.steps, self.tokens_elapsed)

    def ablations(self) -> Iterator[tuple[TokenLosses, AblationLosses]]:
        """Per snapshot the unablated and the ablated losses; one at a time, because they are large."""
        for index, ablated in enumerate(self._entries("ablation")):
            yield TokenLosses(self.losses.dataset.isel(snapshot=index)), AblationLosses(ablated)

    @cached_property
    def in_context_learning(self) -> xr.DataArray:
        """The in-context learning score, [snapshot], with its standard error."""
        early, late = self.indices
        return in_context_learning_score(self.losses, late=late, early=early)

    @cached_property
    def phase_change(self) -> PhaseChange:
        """Where the in-context learning score fell, in training tokens."""
        return phase_change(self.tokens_elapsed, self.in_context_learning)

    @cached_property
    def head_types(self) -> xr.DataArray:
        """Type of every head in the last snapshot, [layer, head]."""
        return head_types(HeadScores(self.head_scores.dataset.isel(snapshot=-1)))

    def _entries(self, measurement: str) -> Iterator[xr.Dataset]:
        if measurement not in self.keys:
            raise InputError(f"{measurement} was not measured for {self.name}; the row must name it in `needs`")
        for key in self.keys[measurement]:
            dataset = self.store.read(key)
            if dataset is None:
                raise DamagedFileError(f"{self.store.path(key)} vanished while the table was made; make it again")
            yield dataset
