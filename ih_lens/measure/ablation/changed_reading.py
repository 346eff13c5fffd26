"""What a matrix reads from a residual stream in which single heads changed: a change of rank d_head per head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
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

    def of(
        self,
        base: Float[Tensor, "row d_out"],
        changes: Changes,
        rows: slice,
        scale: Float[Tensor, "row 1"],
    ) -> Float[Tensor, "row d_out"]:
        """What is read from the changed stream.

        Args:
            base: the matrix times the clean stream, without scale and bias.
            changes: what heads changed.
            rows: which rows of the changes `base` stands for.
            scale: of the norm, of the changed stream.
        """
        read = base
        for head, difference in zip(changes.heads, changes.differences, strict=True):
            read = torch.addmm(read, difference[rows], self.of_heads[head])
        return read.mul_(scale).add_(self.bias)


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
        rows: slice,
    ) -> None:
        """Add what the MLP writes to each changed stream, in place.

        Args:
            streams: the changed streams, one per change.
            clean: the stream without any change.
            changes: what heads changed in it.
            rows: which rows of the changes these are.
        """
        base = F.linear(clean, self.mlp.reads.weight)
        linear_base = None if self.mlp.linear is None else F.linear(clean, self.mlp.linear.weight)
        for stream, change in zip(streams, changes, strict=True):
            scale = self.mlp.scale.of(stream)
            linear = None
            if self.linear is not None and linear_base is not None:
                linear = self.linear.of(linear_base, change, rows, scale)
            stream += self.mlp.write(self.reads.of(base, change, rows, scale), linear)
