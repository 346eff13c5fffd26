"""The offset scan as evaluators: where, seen from the induction target, a head looks most, and how much."""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.attention import AttentionReduction
from ih_lens.measure.head_evaluators._base import check_examples
from ih_lens.measure.head_evaluators._repeated import RepeatedTokensEvaluator
from ih_lens.measure.head_evaluators.prefix_matching import prefix_reduction, why_out_of_reach
from ih_lens.types import ModelLike

OFFSETS = range(-2, 4)
"""Those of `prefix_matching_offset_scan`."""


@dataclass(frozen=True)
class _ScanEvaluator(RepeatedTokensEvaluator):
    """What both make of the scan."""

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:
        """Local attention must reach back to the token after the last occurrence."""
        return why_out_of_reach(model, tokens, 0)

    def scan(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """Prefix matching at every offset: [offset, layer, head]."""
        check_examples(model, tokens, self.bos)
        return prefix_reduction(model, tokens, OFFSETS)


@dataclass(frozen=True)
class BestOffsetAttentionEvaluator(_ScanEvaluator):
    """Prefix matching at the best of the offsets -2 to 3: that of a head which looks beside the induction target.

    Examples:
        >>> score_heads(model, evaluators=["best_offset", "best_offset_attention"]).head("L5H1")
    """

    name: ClassVar[str] = "best_offset_attention"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    definition: ClassVar[str] = (
        "the largest of the prefix matching scores with targets shifted by -2 to 3 positions, each the attention "
        "summed over the shifted targets, a mean over queries and then examples"
    )

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """The largest of the scan; which offset that is follows from all examples together."""
        scan = self.scan(model, tokens)

        def each(
            sums: Float[Tensor, "example layer head_index offset"],
        ) -> Float[Tensor, "example layer head_index"]:
            best = _best(scan.finish(sums)).expand(len(sums), -1, -1)
            of_examples = cast(Tensor, scan.examples(sums))
            return of_examples.gather(-1, best[..., None])[..., 0]

        def finish(sums: Float[Tensor, "example layer head_index offset"]) -> Float[Tensor, "layer head_index"]:
            scores = scan.finish(sums)
            return scores.gather(0, _best(scores)[None])[0]

        return replace(scan, finish=finish, each=each)


@dataclass(frozen=True)
class BestOffsetEvaluator(_ScanEvaluator):
    """The offset from -2 to 3 at which a head attends most: 0 for induction, -1 for a duplicate-token head.

    It is some number for every head: `best_offset_attention` tells whether it means anything.
    """

    name: ClassVar[str] = "best_offset"
    range: ClassVar[tuple[float, float]] = (float(OFFSETS[0]), float(OFFSETS[-1]))
    definition: ClassVar[str] = (
        "which of the offsets -2 to 3 gives the largest prefix matching score (the smallest such offset); 0 is the "
        "token after earlier occurrences of the present one, -1 the occurrences themselves"
    )

    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """The place of the largest of the scan; single examples have no say of their own."""
        scan = self.scan(model, tokens)

        def offset(sums: Float[Tensor, "example layer head_index offset"]) -> Float[Tensor, "layer head_index"]:
            scores = scan.finish(sums)
            return (_best(scores) + OFFSETS[0]).to(scores).where(scores.isfinite().any(dim=0), torch.nan)

        return replace(scan, finish=offset, each=None)


def _best(scores: Float[Tensor, "offset layer head_index"]) -> Int[Tensor, "layer head_index"]:
    """The place of the largest score that is defined."""
    return scores.nan_to_num(nan=-1.0).argmax(dim=0)
