"""Per-token losses with heads ablated ("Data Collection", 2): the sweep over heads and over groups of heads."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation._base import AblationKind, Group
from ih_lens.measure.ablation.fused import FusedSweep
from ih_lens.measure.ablation.hooked import HookedSweep
from ih_lens.measure.ablation.replacements import REPLACEMENTS, CleanOutputs
from ih_lens.measure.forward import check_measurable, folded_if_unobserved, measuring, rows_per_pass
from ih_lens.measure.loss_views import LossViews, choose_views, labels_of_losses
from ih_lens.measure.numerics import require_finite_ablations
from ih_lens.models.folded import FoldedModel
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import AblationLosses
from ih_lens.types import HeadGroup, ModelLike
from ih_lens.validate import head_groups, is_single_head, one_of

_COPIES_ON_CPU = 2**22
"""Numbers in the residual streams of all copies: they pay for the pass over the weights that they share."""
"""Numbers in the residual streams of all copies that exist at once: 16 MB in float32."""


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
        batch_size: copies of examples that exist at once, which bounds the memory: about six residual streams
            [n_pos, d_model] per copy, beside one folded copy of the layers' weights. By default as many as make 2^22
            numbers in the residual stream on a CPU, else 32768 tokens. Changes memory and speed only.
        progress: show the cost and a bar while it runs, if this is a terminal or a notebook.

    Returns:
        `.random_token` [layer, head, example], `.by_context_index` [layer, head, context_index] and `.at_indices`
        [layer, head, example, at_index]; heads that were not asked for are NaN. If any entry of `heads` is a group,
        [group, ...] instead, labelled like "L1H0+L1H3", in the order given.

    Raises:
        InputError: for heads, indices or tokens that do not exist, NaN weights, or "resample" of a single example.
        NumericsError: if the forward pass gives NaN or infinity, with layer and head.
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
    n_rows = rows_per_pass(model, evals.n_pos, batch_size, tokens_on_cpu=_COPIES_ON_CPU // model.cfg.d_model)
    with measuring(model), fastest_float32():
        folded = None if ABLATIONS[kind].own_patterns is None else folded_if_unobserved(model)
        if folded is None:
            ABLATIONS[kind].check(model)
        layers = sorted({head.layer for group in groups for head in group})
        replacement = REPLACEMENTS[replace](CleanOutputs(model, folded), evals, layers, seed, n_rows)
        sweep = _sweep(model, folded, evals, ABLATIONS[kind], groups, views, n_rows)
        values = sweep.run(replacement, progress)
        names = ["+".join(map(str, group)) for group in groups]
        require_finite_ablations(model, evals.tokens, names, values.values())
    leading = {"layer": range(shape[0]), "head": range(shape[1])}
    if all(is_single_head(entry) for entry in asked):
        values = {name: _on_grid(view, groups, shape) for name, view in values.items()}
    else:
        leading = {"group": names}
    about = {"measure": "ablate_heads", "kind": kind, "replace": replace, "seed": seed, "window": window}
    return AblationLosses.from_tensors(
        values, leading=leading, **labels_of_losses(model, evals, views, is_fused=folded is not None, **about)
    )


def _sweep(
    model: ModelLike,
    folded: FoldedModel | None,
    evals: EvalSet,
    kind: AblationKind,
    groups: list[Group],
    views: LossViews,
    n_rows: int,
) -> FusedSweep | HookedSweep:
    if folded is None or kind.own_patterns is None:
        return HookedSweep(model, evals, kind, groups, views, n_rows)
    return FusedSweep(folded, evals, groups, views, kind.own_patterns, n_rows)


def _on_grid(
    values: Float[Tensor, "group *view"], groups: Sequence[Group], shape: tuple[int, int]
) -> Float[Tensor, "layer head *view"]:
    """Single heads at their places, NaN at those of all others."""
    grid = torch.full((*shape, *values.shape[1:]), torch.nan, dtype=values.dtype, device="cpu")
    for (head,), value in zip(groups, values, strict=True):
        grid[head] = value
    return grid
