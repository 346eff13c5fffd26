"""Packing what heads do on a text as it is measured, and what the text itself tells about each head."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ih_lens.measure.head_evaluators._places import prefix_targets
from ih_lens.measure.text_heads import HeadRows
from ih_lens.types import HeadIndex
from ih_lens.viz.viewer.triangles import Thumbnails, Triangle, TrianglePacker

PREFIX_MATCHING, ATTRIBUTION = "prefix matching on this text", "logits added on this text"
"""Names of the scores that the text itself gives."""


class TextHeadCollector:
    """Packs the rows of chosen heads as they come, layer by layer, and sums up the text's own scores.

    Args:
        ids: of the text.
        chosen: heads.
        done: is told how many layers are complete.
        shown: the destinations that count; the rows of all others are left empty.
        attributed: whether there are attributions.
    """

    def __init__(
        self,
        ids: Int[Tensor, "pos"],
        chosen: Sequence[HeadIndex],
        done: Callable[[int], None],
        shown: Bool[Tensor, "pos"],
        *,
        attributed: bool,
    ) -> None:
        self._ids, self._chosen, self._done, self._attributed = ids, chosen, done, attributed
        self._shown, self._targets = shown, prefix_targets(ids[None], 0, 1)[0] & shown[:, None]
        self._layers: dict[int, _Layer] = {}

    def add(self, rows: HeadRows) -> None:
        """Take a block of rows."""
        if rows.layer not in self._layers:
            self._finish_layers()
            members = [head.head for head in self._chosen if head.layer == rows.layer]
            self._layers[rows.layer] = _Layer(members, len(self._ids))
        self._layers[rows.layer].add(_only(rows, self._shown), self._targets)

    def triangles(self, scale: Float[Tensor, "dest"]) -> tuple[tuple[Triangle, ...], tuple[Triangle, ...] | None]:
        """Patterns and attributions, final scale applied, of the chosen heads in their order."""
        self._finish_layers()
        patterns = tuple(self._of(head).patterns[self._row(head)] for head in self._chosen)
        if not self._attributed:
            return patterns, None
        unscaled = [self._of(head).attributions[self._row(head)] for head in self._chosen]
        return patterns, tuple(Triangle((of.extremes / scale).to(torch.float32), of.packed) for of in unscaled)

    def pictures(self) -> UInt8[Tensor, "head row column"]:
        """Thumbnails [head, row, column]."""
        return torch.stack([self._of(head).pictures.finish()[self._row(head)] for head in self._chosen])

    def scores(self, scale: Float[Tensor, "dest"]) -> dict[str, tuple[float, ...]]:
        """What the text itself tells about each head."""
        n_queries = int(self._targets.any(dim=1).sum())
        matched = [self._of(head).matched[self._row(head)] for head in self._chosen]
        found = {PREFIX_MATCHING: tuple(float(total) / n_queries if n_queries else float("nan") for total in matched)}
        if self._attributed:
            added = [torch.cat(self._of(head).added, dim=1)[self._row(head)] for head in self._chosen]
            counted = self._shown[:-1]
            found[ATTRIBUTION] = tuple(float((of_head / scale)[counted].mean()) for of_head in added)
        return found

    def _of(self, head: HeadIndex) -> "_Layer":
        return self._layers[head.layer]

    def _row(self, head: HeadIndex) -> int:
        return self._layers[head.layer].members.index(head.head)

    def _finish_layers(self) -> None:
        """Close the layers that are complete: a layer's blocks come one after the other."""
        for layer in self._layers.values():
            layer.finish()
        self._done(len(self._layers))


class _Layer:
    """The chosen heads of one layer."""

    def __init__(self, members: list[int], n_pos: int) -> None:
        self.members = members
        self.pictures = Thumbnails(len(members), n_pos)
        self.matched = torch.zeros(len(members), dtype=torch.float64, device="cpu")
        self.added: list[Float[Tensor, "head dest"]] = []
        self.patterns: list[Triangle] = []
        self.attributions: list[Triangle] = []
        self._packers: tuple[TrianglePacker, TrianglePacker] | None = (
            TrianglePacker(len(members)),
            TrianglePacker(len(members)),
        )

    def add(self, rows: HeadRows, targets: Bool[Tensor, "query src"]) -> None:
        """Pack a block of rows."""
        if self._packers is None:
            raise ValueError(f"layer {rows.layer} was complete")
        pattern = rows.pattern[self.members]
        self._packers[0].add(pattern, rows.first_dest)
        self.pictures.add(pattern, rows.first_dest)
        wanted = targets[rows.first_dest :][: pattern.shape[1], : pattern.shape[2]]
        self.matched += (pattern * wanted).sum(dim=(1, 2), dtype=torch.float64)
        if rows.attribution is not None:
            self._packers[1].add(rows.attribution[self.members], rows.first_dest)
            self.added.append(rows.attribution[self.members].sum(dim=-1))

    def finish(self) -> None:
        """Let go of what packing needs."""
        if self._packers is not None:
            self.patterns = self._packers[0].finish()
            self.attributions = self._packers[1].finish() if self.added else []
            self._packers = None


def _only(rows: HeadRows, shown: Bool[Tensor, "pos"]) -> HeadRows:
    """The same with nothing in the rows of destinations that are not shown."""
    if bool(shown.all()):
        return rows

    def masked(values: Float[Tensor, "head_index dest src"]) -> Float[Tensor, "head_index dest src"]:
        kept = shown[rows.first_dest :][: values.shape[1]]
        return values.masked_fill(~kept[:, None], 0.0)

    return replace(
        rows,
        pattern=masked(rows.pattern),
        attribution=None if rows.attribution is None else masked(rows.attribution),
    )
