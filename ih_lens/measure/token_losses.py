"""Per-token losses, the first thing that the paper collects ("Data Collection", 1)."""

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.final_losses import FinalLosses
from ih_lens.measure.forward import (
    STREAM_ON_CPU,
    at_rows,
    check_measurable,
    folded_if_unobserved,
    loss_dtype,
    measuring,
    rows_per_pass,
    start_rows,
)
from ih_lens.measure.loss_views import LossViews, ViewTotals, choose_views, labels_of_losses
from ih_lens.measure.numerics import require_finite_losses
from ih_lens.models.folded import FoldedModel
from ih_lens.models.matmul import fastest_float32
from ih_lens.progress import with_progress
from ih_lens.results import TokenLosses
from ih_lens.types import ModelLike
from ih_lens.validate import one_of


def token_losses(
    model: ModelLike,
    evals: EvalSet,
    *,
    keep: str = "views",
    at_indices: Sequence[int] | None = None,
    window: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> TokenLosses:
    """Losses of a model on an evaluation set, -log p(t_i | t_0..t_{i-1}) in nats at context index i.

    Context indices are zero-based in what the model sees and label the predicted token, so they run from 1 to
    n_pos - 1. Losses are computed in float32 at least.

    Args:
        model: a HookedTransformer, or a bridge.
        evals: examples of any length from two tokens on, no longer than the model's context.
        keep: "views" keeps the views that the analyses need; "all" adds every loss as `.full`.
        at_indices: context indices at which each example's own loss is kept. By default the early and the late one
            of the in-context learning score: 50 and 500, or the same fractions of a shorter example; the only one
            there is in examples of two tokens.
        window: `at_indices` are means over so many indices to both sides, as far as the example reaches.
        batch_size: examples per forward pass; by default as many as make 2^19 numbers in the residual stream on a
            CPU, else 32768 tokens. Changes memory and speed only.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        `.random_token` [example], `.by_context_index` [n_pos - 1] (entry c is context index c + 1), `.at_indices`
        [example, at_index] and on request `.full` [example, n_pos - 1].

    Raises:
        InputError: if tokens lie outside the model's vocabulary or context, an index has no loss, or weights are NaN.
        NumericsError: if the forward pass gives NaN or infinity, with layer and head.

    Examples:
        >>> losses = token_losses(model, EvalSet.from_tokens(tokens, seed=0))
        >>> losses.by_context_index.sel(context_index=500).item()
        3.1
    """
    one_of("keep", keep, ("views", "all"))
    check_measurable(model, evals)
    views = choose_views(evals, at_indices=at_indices, window=window)
    totals = ViewTotals(views, 1, loss_dtype(model), keep_all=keep == "all")
    n_rows = rows_per_pass(model, evals.n_pos, batch_size, tokens_on_cpu=STREAM_ON_CPU // model.cfg.d_model)
    with measuring(model), fastest_float32():
        folded = folded_if_unobserved(model)
        of = _hooked_losses(model) if folded is None else _fused_losses(folded)
        _collect(of, evals, views, totals, n_rows, progress)
        found = {name: values[0] for name, values in totals.finish().items()}
        require_finite_losses(model, evals.tokens, found.values())
    about = {"measure": "token_losses", "window": window}
    return TokenLosses.from_tensors(
        found, **labels_of_losses(model, evals, views, is_fused=folded is not None, **about)
    )


LossesOf = Callable[
    [Int[Tensor, "example pos"], Int[Tensor, "example context_index"]], Float[Tensor, "example context_index"]
]
"""From tokens and context indices to losses."""


def _collect(
    losses_of: LossesOf, evals: EvalSet, views: LossViews, totals: ViewTotals, batch_size: int, progress: bool
) -> None:
    """One forward pass per batch of examples."""
    starts = range(0, evals.n_examples, batch_size)
    what = f"losses of {evals.n_examples * evals.n_pos:,} tokens"
    for start in with_progress(starts, what, total=len(starts), show=progress):
        examples = slice(start, min(start + batch_size, evals.n_examples))
        totals.add([0], examples, losses_of(evals.tokens[examples], views.indices(examples))[None])


def _hooked_losses(model: ModelLike) -> LossesOf:
    """By the model's own forward pass."""
    return lambda tokens, indices: start_rows(model, tokens).losses(indices)


def _fused_losses(folded: FoldedModel) -> LossesOf:
    """Without hooks."""
    final = FinalLosses.made(folded, None)

    def losses(
        tokens: Int[Tensor, "example pos"], indices: Int[Tensor, "example context_index"]
    ) -> Float[Tensor, "example context_index"]:
        tokens, indices = tokens.to(folded.W_E.device), indices.to(folded.W_E.device)
        residual = folded.embed(tokens)
        for layer in folded.layers:
            residual = layer(residual)
        predicting = at_rows(residual, indices - 1).flatten(0, 1)
        return final.of(predicting, tokens.gather(1, indices).flatten()).view(indices.shape)

    return losses
