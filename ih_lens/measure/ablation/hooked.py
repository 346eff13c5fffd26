"""Ablation by hooks: any model whose hooks take effect, a forward pass of all later layers per head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablation._base import AblationKind, Group, LayerOutputs, Worlds
from ih_lens.measure.ablation.replacements import Replacement
from ih_lens.measure.forward import Rows, loss_dtype, start_rows
from ih_lens.measure.loss_views import LossViews, ViewTotals
from ih_lens.progress import with_progress
from ih_lens.types import ModelLike


@dataclass(frozen=True)
class HookedSweep:
    """All ablations of one call: the examples in batches, and in each the groups by the layer that they start in.

    A group's copies start from the residual stream before its first layer, which is computed once per batch; copies
    that start in the same layer go through the model together.
    """

    model: ModelLike
    evals: EvalSet
    kind: AblationKind
    groups: list[Group]
    views: LossViews
    batch_size: int

    def run(self, replacement: Replacement, progress: bool) -> dict[str, Tensor]:
        """The views with the groups as first axis."""
        chunks, n_together = self._chunks(self.batch_size)
        starts = range(0, self.evals.n_examples, n_together)
        n_tokens = len(self.groups) * self.evals.tokens.numel()
        what = f"{len(self.groups)} ablations, {n_tokens:,} tokens in {len(starts) * len(chunks):,} passes"
        totals = ViewTotals(self.views, len(self.groups), loss_dtype(self.model))
        for start in with_progress(starts, what, total=len(starts), show=progress):
            examples = slice(start, min(start + n_together, self.evals.n_examples))
            rows = start_rows(self.model, self.evals.tokens[examples])
            replacements = replacement.for_examples(examples)
            for first_layer, members in chunks:
                rows = rows.advance(first_layer)
                totals.add(members, examples, self._losses(rows, first_layer, members, examples, replacements))
        return totals.finish()

    def _chunks(self, batch_size: int) -> tuple[list[tuple[int, list[int]]], int]:
        """Groups (by place in the list) that run together, with their first layer, and how many examples at once."""
        starting: dict[int, list[int]] = {}
        for place, group in enumerate(self.groups):
            starting.setdefault(min(group).layer, []).append(place)
        n_clean = int(any(self._needs_clean(first_layer) for first_layer in starting))
        n_together = max(1, batch_size // (n_clean + max(map(len, starting.values()))))
        n_copies = max(1, batch_size // n_together - n_clean)
        chunks: list[tuple[int, list[int]]] = []
        for first_layer, places in sorted(starting.items()):
            parts = np.array_split(places, -(-len(places) // n_copies))  # as equal as can be
            chunks += [(first_layer, part.tolist()) for part in parts]
        return chunks, n_together

    def _needs_clean(self, first_layer: int) -> bool:
        return self.kind.needs_clean(first_layer, self.model.cfg.n_layers)

    def _losses(
        self, rows: Rows, first_layer: int, members: list[int], examples: slice, replacements: LayerOutputs
    ) -> Float[Tensor, "group example context_index"]:
        """One forward pass of several copies from their first layer on."""
        n_layers, n_examples = self.model.cfg.n_layers, examples.stop - examples.start
        has_clean = self._needs_clean(first_layer)
        groups = [self.groups[place] for place in members]
        worlds = Worlds(groups, has_clean, first_layer, n_layers, n_examples, rows.may_share_attention, replacements)
        losses = rows.repeat(worlds.n_copies).losses(
            self.views.indices(examples).repeat(len(groups), 1),
            hooks=[*worlds.attend_once_in_first_layer(), *self.kind.hooks(worlds), *worlds.replace_heads()],
            skip=has_clean * n_examples,
        )
        return worlds.split(losses)
