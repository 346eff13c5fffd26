"""Per-token losses with heads ablated ("Data Collection", 2): the sweep over heads and over groups of heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation._base import AblationKind, Group, LayerOutputs, Worlds
from ih_lens.measure.ablation.replacements import REPLACEMENTS, ReplacementSource
from ih_lens.measure.forward import Rows, check_measurable, loss_dtype, measuring, rows_per_pass, start_rows
from ih_lens.measure.loss_views import LossViews, ViewTotals, choose_views
from ih_lens.measure.provenance import provenance
from ih_lens.progress import with_progress
from ih_lens.results import AblationLosses
from ih_lens.types import HeadGroup, ModelLike
from ih_lens.validate import head_groups, is_single_head, one_of


def ablate_heads(
    model: ModelLike,
    evals: EvalSet,
    *,
    kind: str = "pattern_preserving",
    heads: Sequence[HeadGroup] | None = None,
    replace: str = "zero",
    context_indices: str | Sequence[int] = "all",
    at_indices: Sequence[int] | None = None,
    window: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> AblationLosses:
    """Losses in nats with heads ablated, one head or one group of heads at a time.

    A head is ablated at its z, before the output matrix, so the layer's output bias stays. The unablated losses to
    compare with are those of `token_losses` on the same evaluation set.

    Args:
        model: a HookedTransformer, or a bridge whose hooks take effect.
        evals: examples of any length from two tokens on.
        kind: "pattern_preserving" keeps every attention pattern of the unablated run and computes values, MLPs and
            the scales of norms anew (the paper's table); "full" computes everything after the head anew.
        heads: single heads ("L1H4", "1.4" or (1, 4)), or groups of heads that are ablated together; by default every
            head by itself.
        replace: what takes the place of a head's z: "zero"; "mean", its mean over all examples and positions of the
            evaluation set in the unablated model; "resample", its z at the same position of another example.
        context_indices: "all", or the context indices to keep in `.by_context_index`, in that order: the unembedding,
            which costs most in small models, is then applied only at these and at the random index.
        at_indices: as in `token_losses`; by default the listed `context_indices` where there are any.
        window: as in `token_losses`.
        seed: of the choice of other examples for "resample".
        batch_size: copies of examples per forward pass, two at least where patterns are preserved; by default as many
            as make 4096 tokens on a CPU, else 32768. Changes memory and speed only.
        progress: show a bar with the cost while it runs on a terminal.

    Returns:
        `.random_token` [layer, head, example], `.by_context_index` [layer, head, context_index] and `.at_indices`
        [layer, head, example, at_index]; heads that were not asked for are NaN. If any entry of `heads` is a group,
        [group, ...] instead, labelled like "L1H0+L1H3", in the order given.

    Raises:
        InputError: for heads, indices or tokens that do not exist, NaN weights, or "resample" of a single example.
        CapabilityError: if patterns are to be preserved in a model that discards changes of its patterns.

    Examples:
        >>> knocked_out = ablate_heads(model, evals, heads=[["L1H0", "L1H3"]], context_indices=(50, 500))
        >>> in_context_learning_score(knocked_out) - in_context_learning_score(token_losses(model, evals))
    """
    one_of("kind", kind, list(ABLATIONS))
    one_of("replace", replace, list(REPLACEMENTS))
    check_measurable(model, evals)
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    asked = heads if heads is not None else [(layer, head) for layer in range(shape[0]) for head in range(shape[1])]
    groups = head_groups(asked, *shape)
    views = choose_views(evals, by=context_indices, at_indices=at_indices, window=window)
    sweep = _Sweep(model, evals, ABLATIONS[kind], groups, views)
    n_rows = rows_per_pass(model, evals.n_pos, batch_size, tokens_on_cpu=4096)
    with measuring(model):
        sweep.kind.check(model)
        values = sweep.run(REPLACEMENTS[replace], seed, n_rows, progress)
    leading = {"layer": range(shape[0]), "head": range(shape[1])}
    if all(is_single_head(entry) for entry in asked):
        values = {name: _on_grid(view, groups, shape) for name, view in values.items()}
    else:
        leading = {"group": ["+".join(map(str, group)) for group in groups]}
    return AblationLosses.from_tensors(
        values,
        leading=leading,
        random_index=evals.random_index,
        by_context_index=views.by_context_index,
        at_indices=views.at_indices,
        provenance=provenance(
            model,
            measure="ablate_heads",
            kind=kind,
            replace=replace,
            seed=seed,
            fingerprint=evals.fingerprint,
            eval_seed=evals.seed,
            window=window,
        ),
    )


@dataclass(frozen=True)
class _Sweep:
    """All ablations of one call: the examples in batches, and in each the groups by the layer that they start in.

    A group's copies start from the residual stream before its first layer, which is computed once per batch; copies
    that start in the same layer go through the model together.
    """

    model: ModelLike
    evals: EvalSet
    kind: AblationKind
    groups: list[Group]
    views: LossViews

    def run(self, source: ReplacementSource, seed: int, batch_size: int, progress: bool) -> dict[str, Tensor]:
        """The views with the groups as first axis."""
        layers = sorted({head.layer for group in self.groups for head in group})
        chunks, n_together = self._chunks(batch_size)
        starts = range(0, self.evals.n_examples, n_together)
        n_tokens = len(self.groups) * self.evals.tokens.numel()
        what = f"{len(self.groups)} ablations, {n_tokens:,} tokens in {len(starts) * len(chunks):,} passes"
        replacement = source(self.model, self.evals, layers, seed, batch_size)
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


def _on_grid(
    values: Float[Tensor, "group *view"], groups: Sequence[Group], shape: tuple[int, int]
) -> Float[Tensor, "layer head *view"]:
    """Single heads at their places, NaN at those of all others."""
    grid = torch.full((*shape, *values.shape[1:]), torch.nan, dtype=values.dtype)
    for (head,), value in zip(groups, values, strict=True):
        grid[head] = value
    return grid
