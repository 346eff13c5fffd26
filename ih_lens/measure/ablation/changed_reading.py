"""What a matrix reads from a residual stream in which single heads changed: a change of rank d_head per head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.folded_layer import FoldedLayer, FoldedMLP, Reader


@dataclass(frozen=True, repr=False, eq=False)
class Changes:
    """What an ablation changes in the outputs of one layer's heads.

    Attributes:
        heads: which heads.
        differences: per head its z with the ablation less its z without, one row per example and position.
    """

    heads: Sequence[int]
    differences: Sequence[Float[Tensor, "row d_head"]]

    def at(self, rows: slice | Int[Tensor, "some_rows"]) -> "Changes":
        """The changes in some rows."""
        return Changes(self.heads, [difference[rows] for difference in self.differences])

    def added_to(
        self, clean: Float[Tensor, "row d_out"], matrices: Float[Tensor, "head_index d_head d_out"]
    ) -> Float[Tensor, "row d_out"]:
        """`clean` with the change added, each head's difference through its own matrix."""
        for head, difference in zip(self.heads, self.differences, strict=True):
            clean = torch.addmm(clean, difference, matrices[head])
        return clean

    def add_to(
        self,
        clean: Float[Tensor, "example pos d_out"],
        matrices: Float[Tensor, "head_index d_head d_out"],
        *,
        out: Float[Tensor, "example pos d_out"],
    ) -> None:
        """Write `clean` with the change added into `out`, each head's difference through its own matrix."""
        before, target = clean.flatten(0, 1), out.flatten(0, 1)
        for head, difference in zip(self.heads, self.differences, strict=True):
            torch.addmm(before, difference, matrices[head], out=target)
            before = target


@dataclass(frozen=True, repr=False, eq=False)
class ChangedReading:
    """A matrix behind a norm, prepared to read changes that heads of one layer make.

    Attributes:
        of_heads: the product of each head's output matrix with it, the norm's gain and centring in between.
        bias: what it adds.
    """

    of_heads: Float[Tensor, "head_index d_head d_out"]
    bias: Float[Tensor, "d_out"]

    def of_some(self, outputs: slice) -> "ChangedReading":
        """A part of what is read."""
        return ChangedReading(self.of_heads[:, :, outputs], self.bias[outputs])

    def of(
        self, base: Float[Tensor, "row d_out"], changes: Changes, scale: Float[Tensor, "row 1"]
    ) -> Float[Tensor, "row d_out"]:
        """What is read from the changed stream.

        Args:
            base: the matrix times the clean stream, without scale and bias.
            changes: what heads changed.
            scale: of the norm, of the changed stream.
        """
        return changes.added_to(base, self.of_heads).mul_(scale).add_(self.bias)


@dataclass(frozen=True, repr=False, eq=False)
class ChangedMLP:
    """An MLP whose first matrices are prepared to read changes of its own layer's heads."""

    mlp: FoldedMLP
    reads: ChangedReading
    linear: ChangedReading | None

    @classmethod
    def made(cls, layer: FoldedLayer) -> "ChangedMLP | None":
        """Of a layer; None if it has no MLP."""
        if layer.mlp is None:
            return None

        def prepared(reader: Reader) -> ChangedReading:
            return ChangedReading(layer.W_O @ reader.weight.T, reader.bias[0])

        linear = None if layer.mlp.linear is None else prepared(layer.mlp.linear)
        return cls(layer.mlp, prepared(layer.mlp.reads), linear)

    def add_to(
        self,
        streams: Sequence[Float[Tensor, "row d_model"]],
        clean: Float[Tensor, "row d_model"],
        changes: Sequence[Changes],
    ) -> None:
        """Add what the MLP writes to each changed stream, in place.

        Args:
            streams: the changed streams, one per change.
            clean: the stream without any change.
            changes: what heads changed in it.
        """
        base = F.linear(clean, self.mlp.reads.weight)
        linear_base = None if self.mlp.linear is None else F.linear(clean, self.mlp.linear.weight)
        for stream, change in zip(streams, changes, strict=True):
            scale = self.mlp.scale.of(stream)
            linear = None
            if self.linear is not None and linear_base is not None:
                linear = self.linear.of(linear_base, change, scale)
            stream += self.mlp.write(self.reads.of(base, change, scale), linear)
