"""Losses from the final residual stream, some positions at a time, so that few logits exist at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.ablation.changed_reading import ChangedReading, Changes
from ih_lens.models.folded import FoldedModel

_LOGITS_ON_CPU, _LOGITS = 2**19, 2**26
"""Logits that exist at once: on a CPU so few that they stay in its caches."""


@dataclass(frozen=True, repr=False, eq=False)
class FinalLosses:
    """The end of a model.

    Attributes:
        folded: the model.
        W_O: of the last layer, if what its heads change is to be followed.
        reading: the unembedding, prepared to read such changes.
    """

    folded: FoldedModel
    W_O: Float[Tensor, "head_index d_head d_model"] | None
    reading: ChangedReading | None

    @classmethod
    def made(cls, folded: FoldedModel, W_O: Float[Tensor, "head_index d_head d_model"] | None) -> "FinalLosses":
        """Of a model; with `W_O`, for changes of its last layer's heads too."""
        if W_O is None:
            return cls(folded, None, None)
        return cls(folded, W_O, ChangedReading(folded.before_unembedding(W_O) @ folded.W_U, folded.b_U))

    @property
    def rows_at_once(self) -> int:
        """Positions whose logits exist at once."""
        on_cpu = self.folded.W_U.device.type == "cpu"
        return max(1, (_LOGITS_ON_CPU if on_cpu else _LOGITS) // self.folded.W_U.shape[1])

    def of(
        self,
        residual: Float[Tensor, "group example context_index d_model"],
        targets: Int[Tensor, "example context_index"],
    ) -> Float[Tensor, "group example context_index"]:
        """Losses in nats, given the residual stream where they are asked for."""
        folded, n = self.folded, self.rows_at_once
        normalized = folded.before_unembedding(residual).mul_(folded.final_scale.of(residual)).flatten(0, 2)
        expected = targets.expand(len(residual), -1, -1).flatten()
        parts = zip(normalized.split(n), expected.split(n), strict=True)
        losses = [F.cross_entropy(torch.addmm(folded.b_U, x, folded.W_U), t, reduction="none") for x, t in parts]
        return torch.cat(losses).view(residual.shape[:3])

    def of_changes(
        self,
        clean: Float[Tensor, "example pos d_model"],
        changes: Sequence[Changes],
        rows: Int[Tensor, "example context_index"],
        targets: Int[Tensor, "example context_index"],
    ) -> Float[Tensor, "group example context_index"]:
        """Losses where heads of the last layer changed the final stream `clean`.

        Args:
            clean: the final stream at every position.
            changes: what the heads changed at every position.
            rows: the positions that are asked for.
            targets: the tokens after them.
        """
        if self.reading is None or self.W_O is None:
            raise ValueError("made without the last layer's output matrices")
        n_pos = clean.shape[1]
        flat = (rows + n_pos * torch.arange(len(rows), device=rows.device)[:, None]).flatten()
        losses = clean.new_empty(len(changes), flat.numel())
        start = 0
        for at, expected in zip(flat.split(self.rows_at_once), targets.flatten().split(self.rows_at_once), strict=True):
            stream = clean.flatten(0, 1)[at]
            base = self.folded.before_unembedding(stream) @ self.folded.W_U
            for group, change in enumerate(changes):
                here = Changes(change.heads, [difference[at] for difference in change.differences])
                changed = torch.empty_like(stream)
                here.add_to(stream[None], self.W_O, out=changed[None])
                logits = self.reading.of(base, here, slice(None), self.folded.final_scale.of(changed))
                losses[group, start : start + len(at)] = F.cross_entropy(logits, expected, reduction="none")
            start += len(at)
        return losses.view(len(changes), *rows.shape)
