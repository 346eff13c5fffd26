"""Losses from the final residual stream, so that few logits exist at once however large the vocabulary is."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.measure.ablation.changed_reading import ChangedReading, Changes
from ih_lens.models.folded import FoldedModel
from ih_lens.models.linear import linear

_LOGITS_ON_CPU, _LOGITS = 2**19, 2**26
"""Logits that exist at once: on a CPU so few that they stay in its caches."""
_FEWEST_ROWS = 128
"""Rows that go through the unembedding together, so that its matrix is not read for a few of them."""


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
        return cls(folded, W_O, ChangedReading.made(folded.before_unembedding(W_O) @ folded.W_U, folded.b_U))

    @property
    def rows_at_once(self) -> int:
        """Positions whose logits exist at once."""
        return max(_FEWEST_ROWS, self._n_logits // self.folded.W_U.shape[1])

    @property
    def _n_logits(self) -> int:
        return _LOGITS_ON_CPU if self.folded.W_U.device.type == "cpu" else _LOGITS

    def of(self, residual: Float[Tensor, "row d_model"], targets: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
        """Losses in nats, from the residual stream before each target."""
        folded, n_rows = self.folded, self.rows_at_once
        losses: list[Tensor] = []
        for stream, expected in zip(residual.split(n_rows), targets.split(n_rows), strict=True):
            normalized = folded.before_unembedding(stream).mul_(folded.final_scale.of(stream))
            loss = RunningLoss(expected, folded.W_U.shape[1])
            for tokens in self._vocabulary():
                loss.add(linear(normalized, folded.W_U[:, tokens].T, folded.b_U[tokens]), tokens)
            losses.append(loss.finish())
        return torch.cat(losses)

    def of_changes(
        self,
        clean: Float[Tensor, "row d_model"],
        changes: Changes,
        targets: Int[Tensor, "row"],
    ) -> Float[Tensor, "ablation row"]:
        """Losses where heads of the last layer changed the final stream.

        Args:
            clean: the final stream before each target.
            changes: what heads changed in the same rows.
            targets: the tokens that follow.
        """
        losses: list[Tensor] = []
        for start in range(0, len(clean), self.rows_at_once):
            rows = slice(start, start + self.rows_at_once)
            losses.append(self._of_changed_rows(clean[rows], changes.at(rows), targets[rows]))
        return torch.cat(losses, dim=1)

    def _of_changed_rows(self, clean: Tensor, changes: Changes, targets: Tensor) -> Tensor:
        if self.reading is None or self.W_O is None:
            raise ValueError("made without the last layer's output matrices")
        changed = changes.add_to(clean, self.W_O, out=clean.new_empty(len(changes), *clean.shape))
        scales = self.folded.final_scale.of(changed)
        losses = [RunningLoss(targets, self.folded.W_U.shape[1]) for _ in scales]
        before = self.folded.before_unembedding(clean)
        for tokens in self._vocabulary():
            reading, base = self.reading.of_some(tokens), before @ self.folded.W_U[:, tokens]
            for place, loss in enumerate(losses):
                loss.add(reading.of(base, changes, place, scales[place]), tokens)
        return torch.stack([loss.finish() for loss in losses])

    def _vocabulary(self) -> Iterator[slice]:
        """The vocabulary in parts whose logits may exist at once."""
        d_vocab = self.folded.W_U.shape[1]
        width = max(1, self._n_logits // self.rows_at_once)
        for start in range(0, d_vocab, width):
            yield slice(start, min(start + width, d_vocab))


class RunningLoss:
    """The loss of some rows, from their logits part by part of the vocabulary.

    Args:
        targets: the tokens that follow.
        d_vocab: how many tokens there are.
    """

    def __init__(self, targets: Int[Tensor, "row"], d_vocab: int) -> None:
        self._targets, self._d_vocab = targets, d_vocab
        self._whole: Tensor | None = None
        self._log_total: Tensor | None = None
        self._of_target: Tensor | None = None

    def add(self, logits: Float[Tensor, "row part"], tokens: slice) -> None:
        """Take in the logits of the tokens in a part of the vocabulary; they are overwritten."""
        if logits.shape[1] == self._d_vocab:
            self._whole = F.cross_entropy(logits, self._targets, reduction="none")
            return
        place = self._targets - tokens.start
        inside = (place >= 0) & (place < logits.shape[1])
        of_target = logits.gather(1, place.where(inside, 0)[:, None])[:, 0].where(inside, -torch.inf)
        # the largest probability is one over the sum of exp(logit - largest): no routine of its own is as fast
        log_total = logits.amax(-1).sub_(torch.softmax(logits, -1, out=logits).amax(-1).log_())
        self._log_total = log_total if self._log_total is None else torch.logaddexp(self._log_total, log_total)
        self._of_target = of_target if self._of_target is None else torch.maximum(self._of_target, of_target)

    def finish(self) -> Float[Tensor, "row"]:
        """The losses in nats."""
        if self._whole is not None:
            return self._whole
        if self._log_total is None or self._of_target is None:
            raise ValueError("no logits were added")
        return self._log_total - self._of_target
