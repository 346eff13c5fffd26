"""What one head reads, term by term: its queries, keys and values as sums over everything written before it.

A head reads the residual stream through a norm and a matrix. With the norm's actual scale held, both are linear, and so
are rotation by position and smearing: each query, key and value is exactly the sum of what the embedding, positions,
every earlier head, every MLP and the biases add to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ih_lens.models.effective import norm_gain, plain_matrix, precise
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.smeared_keys import smear_keys
from ih_lens.types import HeadIndex, ModelLike

Side: TypeAlias = Literal["q", "k", "v"]

EMBEDDING, POSITIONS, BIASES, ATTENTION_BIAS = "embedding", "positions", "biases", "attention bias"
"""Names of terms beside heads (like "L0H3") and MLPs (like "MLP0")."""

_MATRICES: dict[str, Literal["W_Q", "W_K", "W_V"]] = {"q": "W_Q", "k": "W_K", "v": "W_V"}


def earlier_heads(model: ModelLike, layer: int) -> list[HeadIndex]:
    """All heads of the layers before, in order."""
    return [HeadIndex(earlier, head) for earlier in range(layer) for head in range(model.cfg.n_heads)]


def term_names(model: ModelLike, layer: int) -> list[str]:
    """Names of everything that a head of a layer reads, in order; they add up to all that it reads."""
    positions = [POSITIONS] if model.cfg.positional_embedding_type in ("standard", "shortformer") else []
    mlps = [] if model.cfg.attn_only else [f"MLP{earlier}" for earlier in range(layer)]
    return [EMBEDDING, *positions, *map(str, earlier_heads(model, layer)), *mlps, BIASES]


@dataclass(frozen=True)
class HeadReading:
    """One batch of examples as one head reads it.

    Attributes:
        model: the model.
        head: the head.
        residual: what it reads from, before the norm.
        streams: what the embedding, added positions, MLPs and the output biases of attention wrote into it.
        behind_norm: positions that are added to queries' and keys' inputs behind the norm (shortformer).
        z: of every earlier layer, each head's weighted sum of values.
        previous: of every earlier layer, the part of z that comes from the position before.
        scores: the head's own attention scores, -inf where it sees nothing.
        bias: what is added to the scores by distance (ALiBi); zero otherwise.
    """

    model: HookedTransformer
    head: HeadIndex
    residual: Float[Tensor, "batch pos d_model"]
    streams: dict[str, Float[Tensor, "batch pos d_model"]]
    behind_norm: Float[Tensor, "batch pos d_model"] | None
    z: Sequence[Float[Tensor, "batch pos head_index d_head"]]
    previous: Sequence[Float[Tensor, "batch pos head_index d_head"]]
    scores: Float[Tensor, "batch query_pos key_pos"]
    bias: Float[Tensor, "query_pos key_pos"]

    @property
    def visible(self) -> Bool[Tensor, "batch query_pos key_pos"]:
        """Keys that each query sees."""
        return self.scores.isfinite()

    def written(self, head: HeadIndex, *, previous: bool = False) -> Float[Tensor, "batch pos d_model"]:
        """What an earlier head wrote into the residual stream; `previous`: from the position before alone."""
        z = (self.previous if previous else self.z)[head.layer][:, :, head.head]
        return z @ plain_matrix(self.model, "W_O", head.layer)[head.head].to(z)

    def terms(self, side: Side) -> Float[Tensor, "term batch pos d_head"]:
        """The head's queries, keys or values, by what they are made of, in the order of `term_names`.

        Ready for their product: rotated, smeared, queries divided by the scale of attention.
        """
        matrix, constant, plain = self._matrices(side)
        scale = self._own_scale
        projected = {name: stream @ matrix / scale for name, stream in self.streams.items()}
        projected[BIASES] = projected[BIASES] + constant
        if self.behind_norm is not None:
            shown = self.behind_norm @ plain
            projected[POSITIONS] = torch.zeros_like(shown) if side == "v" else shown
        from_heads = self._of_heads(side, self.z)
        heads = dict(zip(map(str, earlier_heads(self.model, self.head.layer)), from_heads, strict=True))
        raw = torch.stack([{**projected, **heads}[name] for name in term_names(self.model, self.head.layer)])
        return self._finish(side, raw, raw.sum(dim=0))

    def previous_terms(self, side: Side) -> Float[Tensor, "earlier_head batch pos d_head"]:
        """Of the terms of all earlier heads the part that each took from the position before."""
        return self._finish(side, self._of_heads(side, self.previous), self._raw(side))

    def part(self, side: Side, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_head"]:
        """What a part of the residual stream adds to queries, keys or values, at the actual scale of the norm."""
        raw = stream @ self._matrices(side)[0] / self._own_scale
        return self._finish(side, raw[None], self._raw(side))[0]

    def positional(self, side: Side) -> Float[Tensor, "batch pos d_head"]:
        """What added positions and all biases make of queries or keys, at the actual scale of the norm."""
        matrix, constant, plain = self._matrices(side)
        stream = self.streams[BIASES] + self.streams.get(POSITIONS, torch.zeros_like(self.residual))
        raw = stream @ matrix / self._own_scale + constant
        if self.behind_norm is not None:
            raw = raw + self.behind_norm @ plain
        return self._finish(side, raw[None], self._raw(side))[0]

    def whole(self, side: Side) -> Float[Tensor, "batch pos d_head"]:
        """The head's queries, keys or values."""
        whole = self._raw(side)
        return self._finish(side, whole[None], whole)[0]

    def without(self, change: Float[Tensor, "batch pos d_model"]) -> "HeadReading":
        """The same with something taken out of the residual stream, to be normalised anew; terms are not for this."""
        return replace(self, residual=self.residual - change)

    def after(
        self, side: Side, change: Float[Tensor, "batch pos d_model"], *, ln_scale: str = "recomputed"
    ) -> Float[Tensor, "batch pos d_head"]:
        """Queries, keys or values when something is taken out of what this side alone reads.

        Args:
            side: which.
            change: what is subtracted from the residual stream.
            ln_scale: "recomputed" normalises what is left anew; "frozen" keeps the norm's scale.
        """
        if ln_scale == "recomputed":
            return self.without(change).whole(side)
        whole = self._raw(side)
        left = whole - change @ self._matrices(side)[0] / self._own_scale
        return self._finish(side, left[None], whole)[0]

    def pattern(
        self, queries: Float[Tensor, "batch pos d_head"], keys: Float[Tensor, "batch pos d_head"]
    ) -> Float[Tensor, "batch query_pos key_pos"]:
        """Where the head attends with other queries or keys."""
        scores = queries @ keys.mT + self.bias
        return scores.masked_fill(~self.visible, -torch.inf).softmax(dim=-1)

    def _matrices(
        self, side: Side
    ) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head"], Float[Tensor, "d_model d_head"]]:
        """What reads the residual stream divided by the norm's scale, what is always added, and the plain matrix."""
        block: Any = self.model.blocks[self.head.layer]
        plain = plain_matrix(self.model, _MATRICES[side], self.head.layer)[self.head.head].to(self.residual)
        gain = norm_gain(block.ln1, self.model.cfg)
        matrix = plain if gain is None else gain.to(plain)[:, None] * plain
        if str(self.model.cfg.normalization_type).startswith("LN"):
            matrix = matrix - matrix.mean(dim=0)
        constant = precise(getattr(block.attn, f"b_{side.upper()}")[self.head.head]).to(plain)
        norm_bias = getattr(block.ln1, "b", None)
        return matrix, constant if norm_bias is None else constant + precise(norm_bias).to(plain) @ plain, plain

    @cached_property
    def _own_scale(self) -> Float[Tensor, "batch pos 1"]:
        """What the norm divides by."""
        kind, residual = self.model.cfg.normalization_type, self.residual
        if kind is None:
            return torch.ones_like(residual[..., :1])
        if kind.startswith("LN"):
            residual = residual - residual.mean(dim=-1, keepdim=True)
        return (residual.square().mean(dim=-1, keepdim=True) + self.model.cfg.eps).sqrt()

    def _raw(self, side: Side) -> Float[Tensor, "batch pos d_head"]:
        """Queries, keys or values before all that follows their matrix."""
        matrix, constant, plain = self._matrices(side)
        raw = self.residual @ matrix / self._own_scale + constant
        return raw if self.behind_norm is None or side == "v" else raw + self.behind_norm @ plain

    def _of_heads(self, side: Side, z: Sequence[Tensor]) -> Float[Tensor, "earlier_head batch pos d_head"]:
        """What each earlier head adds, through one small matrix per head: its whole output is never formed."""
        matrix, scale = self._matrices(side)[0], self._own_scale
        parts = [
            torch.einsum("bphd,hde->hbpe", of_layer, plain_matrix(self.model, "W_O", layer).to(matrix) @ matrix)
            for layer, of_layer in enumerate(z)
        ]
        return torch.cat(parts) / scale if parts else matrix.new_zeros(0, *self.residual.shape[:2], matrix.shape[1])

    def _finish(
        self, side: Side, raw: Float[Tensor, "term batch pos d_head"], whole: Float[Tensor, "batch pos d_head"]
    ) -> Float[Tensor, "term batch pos d_head"]:
        """All that follows the matrix; linear once the scale of a norm of queries or keys, that of `whole`, is held."""
        if side == "v":
            return raw
        attention: Any = self.model.blocks[self.head.layer].attn
        norm = getattr(attention, f"{side}_norm", None)
        if norm is not None:
            raw = raw / (whole.square().mean(dim=-1, keepdim=True) + self.model.cfg.eps).sqrt()
            raw = raw * cast(Tensor, norm_gain(norm, self.model.cfg)).to(raw)
        flat = raw.flatten(0, 1)[:, :, None]
        if side == "k" and hasattr(attention, "alpha"):
            sharing = self.model.cfg.n_heads // len(attention.alpha)
            flat = smear_keys(flat, attention.alpha.detach()[self.head.head // sharing, None])
        if self.model.cfg.positional_embedding_type == "rotary":
            flat = attention.apply_rotary(flat)
        return flat[:, :, 0].unflatten(0, raw.shape[:2]) / (float(attention.attn_scale) if side == "q" else 1.0)
