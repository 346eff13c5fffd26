"""Per-token losses, the first thing that the paper collects ("Data Collection", 1)."""

from collections.abc import Sequence

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.forward import check_measurable, loss_dtype, measuring, rows_per_pass, start_rows
from ih_lens.measure.loss_views import LossViews, ViewTotals, choose_views
from ih_lens.measure.provenance import provenance
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
        batch_size: examples per forward pass; by default as many as make 1024 tokens on a CPU, else 32768. Changes
            memory and speed only.
        progress: show a bar while it runs on a terminal.

    Returns:
        `.random_token` [example], `.by_context_index` [n_pos - 1] (entry c is context index c + 1), `.at_indices`
        [example, at_index] and on request `.full` [example, n_pos - 1].

    Raises:
        InputError: if tokens lie outside the model's vocabulary or context, an index has no loss, or weights are NaN.

    Examples:
        >>> losses = token_losses(model, EvalSet.from_tokens(tokens, seed=0))
        >>> losses.by_context_index.sel(context_index=500).item()
        3.1
    """
    one_of("keep", keep, ("views", "all"))
    check_measurable(model, evals)
    views = choose_views(evals, at_indices=at_indices, window=window)
    totals = ViewTotals(views, 1, loss_dtype(model), keep_all=keep == "all")
    n_rows = rows_per_pass(model, evals.n_pos, batch_size, tokens_on_cpu=1024)
    _collect(model, evals, views, totals, n_rows, progress)
    return TokenLosses.from_tensors(
        {name: values[0] for name, values in totals.finish().items()},
        random_index=evals.random_index,
        by_context_index=views.by_context_index,
        at_indices=views.at_indices,
        provenance=provenance(
            model, measure="token_losses", fingerprint=evals.fingerprint, eval_seed=evals.seed, window=window
        ),
    )


def _collect(
    model: ModelLike, evals: EvalSet, views: LossViews, totals: ViewTotals, batch_size: int, progress: bool
) -> None:
    """One forward pass per batch of examples."""
    starts = range(0, evals.n_examples, batch_size)
    what = f"losses of {evals.n_examples * evals.n_pos:,} tokens"
    with measuring(model):
        for start in with_progress(starts, what, total=len(starts), show=progress):
            examples = slice(start, min(start + batch_size, evals.n_examples))
            rows = start_rows(model, evals.tokens[examples])
            totals.add([0], examples, rows.losses(views.indices(examples))[None])
