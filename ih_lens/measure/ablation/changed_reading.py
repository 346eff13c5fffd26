"""What a matrix reads from a residual stream in which single heads changed: a change of rank d_head per head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.folded_layer import FoldedLayer, FoldedMLP, Reader


@dataclass(frozen=True, repr=False, eq=False)
class Changes:
    """What ablations change in the outputs of one layer's heads, one ablation beside the other.

    An ablation of fewer heads than another has head 0 with a difference of zero in the slots that are left.

    Attributes:
        heads: per slot and ablation a head.
        differences: of that head, its z with the ablation less its z without, one row per example and position.
    """

    heads: Sequence[Sequence[int]]
    differences: Float[Tensor, "slot ablation row d_head"]

    @classmethod
    def made(
        cls,
        heads: Sequence[Sequence[int]],
        z: Float[Tensor, "row head_index d_head"],
        replacement: Float[Tensor, "row_or_one head_index d_head"],
    ) -> "Changes":
        """Of replacing heads.

        Args:
            heads: per ablation its heads.
            z: of every head without ablation.
            replacement: what takes its place.
        """
        changed = (replacement - z).transpose(0, 1)
        n_slots = max(map(len, heads))
        slots = [[ablated[slot] if slot < len(ablated) else 0 for ablated in heads] for slot in range(n_slots)]
        differences = torch.stack([torch.stack([changed[head] for head in slot]) for slot in slots])
        for place, ablated in enumerate(heads):
            differences[len(ablated) :, place] = 0
        return cls(slots, differences)

    def __len__(self) -> int:
        return self.differences.shape[1]

    def at(self, rows: slice | Int[Tensor, "some_rows"]) -> "Changes":
        """The changes in some rows."""
        return Changes(self.heads, self.differences[:, :, rows])

    def add_to(
        self,
        clean: Float[Tensor, "row d_out"],
        matrices: Float[Tensor, "head_index d_head d_out"],
        *,
        out: Float[Tensor, "ablation row d_out"],
    ) -> Float[Tensor, "ablation row d_out"]:
        """Write `clean` with each ablation's change added into `out`, each difference through its head's matrix."""
        before = clean.expand(len(self), -1, -1)
        for heads, differences in zip(self.heads, self.differences, strict=True):
            before = torch.baddbmm(before, differences, matrices[heads], out=out)
        return out

    def of_one(self, place: int) -> Iterator[tuple[int, Float[Tensor, "row d_head"]]]:
        """Heads and differences of one ablation."""
        for heads, differences in zip(self.heads, self.differences, strict=True):
            yield heads[place], differences[place]


@dataclass(frozen=True, repr=False, eq=False)
class ChangedReading:
    """A matrix behind a norm, prepared to read changes that heads of one layer make.

    Attributes:
        of_heads: the product of each head's output matrix with it, the norm's gain and centring in between.
        bias: what it adds.
        has_bias: whether that is anything.
    """

    of_heads: Float[Tensor, "head_index d_head d_out"]
    bias: Float[Tensor, "d_out"]
    has_bias: bool

    @classmethod
    def made(cls, of_heads: Float[Tensor, "head_index d_head d_out"], bias: Float[Tensor, "d_out"]) -> "ChangedReading":
        """With these products and this bias."""
        return cls(of_heads, bias, bool(bias.any()))

    def of_some(self, outputs: slice) -> "ChangedReading":
        """A part of what is read."""
        return ChangedReading(self.of_heads[:, :, outputs], self.bias[outputs], self.has_bias)

    def of(
        self, base: Float[Tensor, "row d_out"], changes: Changes, place: int, scale: Float[Tensor, "row 1"]
    ) -> Float[Tensor, "row d_out"]:
        """What is read from the stream that one ablation changed.

        Args:
            base: the matrix times the clean stream, without scale and bias.
            changes: what the ablations changed.
            place: which of them.
            scale: of the norm, of the changed stream.
        """
        read = base * scale  # torch.addcmul would take the bias too, at seven times the cost
        if self.has_bias:
            read += self.bias
        for head, difference in changes.of_one(place):
            read.addmm_(difference * scale, self.of_heads[head])
        return read


@dataclass(frozen=True, repr=False, eq=False)
class ChangedMLP:
    """An MLP whose first matrices are prepared to read changes of its own layer's heads."""

    mlp: FoldedMLP
    reads: ChangedReading
    gated: ChangedReading | None

    @classmethod
    def made(cls, layer: FoldedLayer) -> "ChangedMLP | None":
        """Of a layer; None if it has no MLP."""
        if layer.mlp is None:
            return None

        def prepared(reader: Reader) -> ChangedReading:
            return ChangedReading.made(layer.W_O @ reader.weight.T, reader.bias[0])

        gated = None if layer.mlp.gated is None else prepared(layer.mlp.gated)
        return cls(layer.mlp, prepared(layer.mlp.reads), gated)

    def add_to(
        self, streams: Float[Tensor, "ablation row d_model"], clean: Float[Tensor, "row d_model"], changes: Changes
    ) -> None:
        """Add what the MLP writes to each changed stream, in place.

        Args:
            streams: the changed streams.
            clean: the stream without any change.
            changes: what was changed in it.
        """
        base = F.linear(clean, self.mlp.reads.weight)
        gated_base = None if self.mlp.gated is None else F.linear(clean, self.mlp.gated.weight)
        for place, stream in enumerate(streams):
            scale = self.mlp.scale.of(stream)
            gated = None
            if self.gated is not None and gated_base is not None:
                gated = self.gated.of(gated_base, changes, place, scale)
            stream += self.mlp.write(self.reads.of(base, changes, place, scale), gated)
