"""Which losses of an evaluation set are needed, and how they become the three views that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, context_indices, default_context_indices


@dataclass(frozen=True)
class LossViews:
    """The views to take of one evaluation set.

    Attributes:
        random_index: the random context index of each example.
        by_context_index: context indices whose means over examples are kept, in this order.
        at_indices: context indices at which each example's own loss is kept, in this order.
        window: `at_indices` are means over so many indices to both sides, as far as the example reaches.
        computed: every context index that is computed for all examples, in ascending order.
        n_pos: tokens per example.
    """

    random_index: Int[Tensor, "example"]
    by_context_index: list[int]
    at_indices: list[int]
    window: int
    computed: list[int]
    n_pos: int

    @property
    def is_complete(self) -> bool:
        """Whether every loss is computed, the random ones among them."""
        return len(self.computed) == self.n_pos - 1

    def indices(self, examples: slice) -> Int[Tensor, "example context_index"]:
        """The context indices to compute for these examples: the shared ones, then the random one if it is extra."""
        random = self.random_index[examples, None]
        shared = torch.tensor(self.computed, dtype=torch.long, device="cpu").expand(len(random), -1)
        return shared if self.is_complete else torch.cat([shared, random], dim=1)

    def random_place(self, examples: slice) -> Int[Tensor, "example"]:
        """Where each example's random loss stands among the computed ones."""
        random = self.random_index[examples]
        return random - 1 if self.is_complete else torch.full_like(random, len(self.computed))

    def places(self, indices: Sequence[int]) -> list[int]:
        """Where shared context indices stand among the computed ones."""
        place = {index: place for place, index in enumerate(self.computed)}
        return [place[index] for index in indices]

    def around(self, index: int) -> list[int]:
        """The context indices that are averaged for one of `at_indices`."""
        return _around(index, self.window, self.n_pos)


def _around(index: int, window: int, n_pos: int) -> list[int]:
    return list(range(max(1, index - window), min(n_pos - 1, index + window) + 1))


def choose_views(
    evals: EvalSet,
    *,
    by: str | Sequence[int] = "all",
    at_indices: Sequence[int] | None = None,
    window: int = 0,
) -> LossViews:
    """Check the indices that were asked for, and fill in those that were not.

    Without `at_indices` they are those of `by` where it lists some, else the two of the in-context learning score;
    an example of two tokens has only one loss, so there it is that one.

    Raises:
        InputError: for an index outside 1..n_pos-1 or a negative window.
    """
    n_pos = evals.n_pos
    if isinstance(by, str) and by != "all":
        raise InputError(f'context_indices: expected "all" or a sequence of context indices, got {by!r}')
    every = list(range(1, n_pos))
    by_context_index = every if isinstance(by, str) else context_indices(by, n_pos)
    if at_indices is None:
        default = list(default_context_indices(n_pos)) if n_pos > 2 else every
        at_indices = default if isinstance(by, str) else by_context_index
    at_indices = context_indices(at_indices, n_pos)
    at_least("window", window, 0)
    computed = {*by_context_index, *(near for index in at_indices for near in _around(index, window, n_pos))}
    return LossViews(evals.random_index, by_context_index, at_indices, window, sorted(computed), n_pos)


class ViewTotals:
    """Collects losses batch by batch into the views of one or more measurements of the same examples.

    Sums are kept in float64, so the views do not depend on how the examples were split into batches.
    """

    def __init__(self, views: LossViews, n_measurements: int, dtype: torch.dtype, *, keep_all: bool = False):
        n_examples = len(views.random_index)
        self._views = views
        self._random = torch.zeros(n_measurements, n_examples, dtype=dtype, device="cpu")
        self._at = torch.zeros(n_measurements, n_examples, len(views.at_indices), dtype=dtype, device="cpu")
        self._sums = torch.zeros(n_measurements, len(views.by_context_index), dtype=torch.float64, device="cpu")
        n_kept = views.n_pos - 1 if keep_all else 0
        self._full = torch.zeros(n_measurements, n_examples, n_kept, dtype=dtype, device="cpu")

    def add(
        self, measurements: Sequence[int], examples: slice, losses: Float[Tensor, "measurement example context_index"]
    ) -> None:
        """Take in the losses at `views.indices(examples)`."""
        views, losses, measurements = self._views, losses.to("cpu"), list(measurements)
        place = views.random_place(examples).expand(len(losses), -1)[..., None]
        self._random[measurements, examples] = losses.gather(-1, place)[..., 0].to(self._random.dtype)
        for column, index in enumerate(views.at_indices):
            self._at[measurements, examples, column] = losses[..., views.places(views.around(index))].mean(-1)
        self._sums[measurements] += losses[..., views.places(views.by_context_index)].double().sum(dim=1)
        if self._full.shape[-1]:
            self._full[measurements, examples] = losses

    def finish(self) -> dict[str, Float[Tensor, "measurement ..."]]:
        """The views, each with the measurements as first axis."""
        means = (self._sums / self._random.shape[1]).to(self._random.dtype)
        views = {"random_token": self._random, "by_context_index": means, "at_indices": self._at}
        return {**views, "full": self._full} if self._full.shape[-1] else views


def labels_of_losses(
    model: ModelLike, evals: EvalSet, views: LossViews, *, is_fused: bool, **parameters: Any
) -> dict[str, Any]:
    """What results of losses say beside their numbers: which indices they are of, and where they come from."""
    origin = provenance(
        model,
        fingerprint=evals.fingerprint,
        eval_seed=evals.seed,
        examples=evals.description,
        forward="fused" if is_fused else "hooked",
        **parameters,
    )
    return {
        "random_index": views.random_index,
        "by_context_index": views.by_context_index,
        "at_indices": views.at_indices,
        "provenance": origin,
    }
