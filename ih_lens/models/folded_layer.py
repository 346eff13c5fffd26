"""One layer of a model with its norms folded into what reads the residual stream; see `ih_lens.models.folded`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.causal_attention import causal_attention
from ih_lens.models.linear import linear, linear_gelu
from ih_lens.models.smeared_keys import smear_keys


@dataclass(frozen=True, repr=False, eq=False)
class Scale:
    """What is left of a norm: one factor per position.

    Attributes:
        eps: added to the mean square; None where there is no norm.
        centres: whether the mean square is that of the input less its mean.
    """

    eps: float | None
    centres: bool

    def of(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """One over the norm's scale."""
        if self.eps is None:
            return torch.ones_like(x[..., :1])
        if self.centres:
            x = x - x.mean(-1, keepdim=True)
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()


@dataclass(frozen=True, repr=False, eq=False)
class Reader:
    """A matrix that reads the normalised residual stream: `weight @ (x * scale.of(x)) + bias`.

    Attributes:
        weight: with the norm's gain, and its centring where the stream is not centred already.
        bias: with the norm's offset; per position where positions are added behind the norm (shortformer).
    """

    weight: Float[Tensor, "d_out d_model"]
    bias: Float[Tensor, "pos_or_one d_out"]

    def __call__(self, normalized: Float[Tensor, "*batch pos d_model"]) -> Float[Tensor, "*batch pos d_out"]:
        """Read at every position from 0 on."""
        if len(self.bias) == 1:
            return linear(normalized, self.weight, self.bias[0])
        return F.linear(normalized, self.weight).add_(self.bias[: normalized.shape[-2]])


@dataclass(frozen=True, repr=False, eq=False)
class FoldedMLP:
    """An MLP behind its norm.

    Attributes:
        scale: of its norm.
        reads: what the neurons (of gated MLPs: the gates) read.
        gated: of gated MLPs what the gates are multiplied with.
        neuron_bias: of gated MLPs, added behind the gates; zero elsewhere.
        activate: the activation function.
        is_gelu: whether that is GELU by tanh ("gelu_new").
        W_out: output matrix.
        b_out: output bias.
    """

    scale: Scale
    reads: Reader
    gated: Reader | None
    neuron_bias: Float[Tensor, "d_mlp"]
    activate: Callable[[Tensor], Tensor]
    is_gelu: bool
    W_out: Float[Tensor, "d_model d_mlp"]
    b_out: Float[Tensor, "d_model"]

    def __call__(self, x: Float[Tensor, "*batch pos d_model"]) -> Float[Tensor, "*batch pos d_model"]:
        """What it writes, from the residual stream that it reads."""
        normalized = x * self.scale.of(x)
        if self.is_gelu and self.gated is None:
            return self._output(linear_gelu(normalized, self.reads.weight, self.reads.bias[0]))
        return self.write(self.reads(normalized), None if self.gated is None else self.gated(normalized))

    def write(
        self, read: Float[Tensor, "*batch pos d_mlp"], gated: Float[Tensor, "*batch pos d_mlp"] | None = None
    ) -> Float[Tensor, "*batch pos d_model"]:
        """What it writes, from what it read."""
        neurons = self.activate(read)
        if gated is not None:
            neurons = neurons.mul_(gated).add_(self.neuron_bias)
        return self._output(neurons)

    def _output(self, neurons: Float[Tensor, "*batch pos d_mlp"]) -> Float[Tensor, "*batch pos d_model"]:
        return linear(neurons, self.W_out, self.b_out)


@dataclass(frozen=True, repr=False, eq=False)
class FoldedLayer:
    """One layer; heads are the second axis of whatever belongs to single heads.

    Attributes:
        scale: of the norm before attention.
        queries: what the queries read, head by head.
        keys: what the keys read, before smearing and rotation; fewer heads under grouped queries.
        values: what the values read.
        W_O: output matrices.
        b_O: output bias.
        alpha: of smeared keys, else None.
        rotation: of rotary models: the layer's own tables, else None.
        score_scale: what q k is multiplied with.
        window: of local attention, else None.
        slopes: of ALiBi, else None.
        mlp: None in attention-only models.
        parallel: whether the MLP reads the stream before attention instead of behind it.
    """

    scale: Scale
    queries: Reader
    keys: Reader
    values: Reader
    W_O: Float[Tensor, "head_index d_head d_model"]
    b_O: Float[Tensor, "d_model"]
    alpha: Float[Tensor, "key_head"] | None
    rotation: Any
    score_scale: float
    window: int | None
    slopes: Float[Tensor, "head_index"] | None
    mlp: FoldedMLP | None
    parallel: bool

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return self.W_O.shape[0]

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.W_O.shape[1]

    def by_head(self, projected: Float[Tensor, "*batch pos d_out"]) -> Float[Tensor, "*batch pos some_heads d_head"]:
        """Split what queries, keys or values read into heads."""
        return projected.unflatten(-1, (-1, self.d_head))

    def for_every_head(
        self, shared: Float[Tensor, "batch some_heads *rest"]
    ) -> Float[Tensor, "batch head_index *rest"]:
        """Repeat what groups of heads share."""
        repeats = self.n_heads // shared.shape[1]
        return shared if repeats == 1 else shared.repeat_interleave(repeats, dim=1)

    def queries_and_keys(
        self, normalized: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch head_index pos d_head"], Float[Tensor, "batch head_index pos d_head"]]:
        """Queries and keys as they meet, keys repeated for the heads that share them."""
        q = self.rotate(self.by_head(self.queries(normalized)))
        return q.transpose(1, 2), self.for_every_head(self.finished_keys(normalized))

    def finished_keys(
        self, normalized: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch key_head pos d_head"]:
        """Keys, smeared and rotated."""
        k = self.by_head(self.keys(normalized))
        if self.alpha is not None:
            k = smear_keys(k, self.alpha)
        return self.rotate(k).transpose(1, 2)

    def rotate(
        self,
        x: Float[Tensor, "batch pos some_heads d_head"],
        positions: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos some_heads d_head"]:
        """Rotary embedding at the given positions, by default 0, 1, ...; nothing for other models."""
        if self.rotation is None:
            return x
        n_rotated = self.rotation.cfg.rotary_dim
        at = slice(x.shape[1]) if positions is None else positions
        cos, sin = (table.to(x)[at].unsqueeze(-2) for table in (self.rotation.rotary_cos, self.rotation.rotary_sin))
        turned = x[..., :n_rotated]
        turned = turned * cos + self.rotation.rotate_every_two(turned) * sin
        return turned if n_rotated == self.d_head else torch.cat([turned, x[..., n_rotated:]], dim=-1)

    def reach(self, n_pos: int) -> None:
        """Let rotary embedding reach so many positions; TransformerLens's own tables begin short and grow."""
        if self.rotation is not None and len(self.rotation.rotary_cos) < n_pos:
            self.rotation._extend_rotary_embeddings(n_pos)  # pyright: ignore[reportPrivateUsage]

    def attend(
        self,
        q: Float[Tensor, "batch head_index pos d_head"],
        k: Float[Tensor, "batch head_index pos d_head"],
        v: Float[Tensor, "batch head_index pos d_value"],
    ) -> Float[Tensor, "batch head_index pos d_value"]:
        """Move values, of any width, along the attention pattern."""
        return causal_attention(q, k, v, scale=self.score_scale, window=self.window, slopes=self.slopes)

    def write(
        self, z: Float[Tensor, "*batch pos head_index d_head"], residual: Float[Tensor, "*batch pos d_model"]
    ) -> Float[Tensor, "*batch pos d_model"]:
        """The stream behind attention: the heads' outputs and the bias added to it."""
        return linear(z.flatten(-2), self.W_O.flatten(0, 1).T, self.b_O).add_(residual)

    def behind(
        self, mid: Float[Tensor, "*batch pos d_model"], residual: Float[Tensor, "*batch pos d_model"]
    ) -> Float[Tensor, "*batch pos d_model"]:
        """The stream behind the layer, from that behind and before its attention."""
        return mid if self.mlp is None else self.mlp(residual if self.parallel else mid).add_(mid)

    def outputs(self, residual: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos head_index d_head"]:
        """Every head's output z, from the stream before the layer."""
        normalized = residual * self.scale.of(residual)
        q, k = self.queries_and_keys(normalized)
        v = self.for_every_head(self.by_head(self.values(normalized)).transpose(1, 2))
        return self.attend(q, k, v).transpose(1, 2)

    def __call__(self, residual: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream behind the layer."""
        return self.behind(self.write(self.outputs(residual), residual), residual)
