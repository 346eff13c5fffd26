"""A HookedTransformer with everything linear folded together, for fast forward passes that no hook sees.

Norms keep only the scale that depends on their input: gains, offsets and centring are folded into the matrices that
read the residual stream. Where every norm centres, whatever writes into the stream is centred instead, so that the
stream always is.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.models.folded_layer import FoldedLayer, FoldedMLP, Reader, Scale
from ih_lens.models.fused_forward import activate, key_value_parameters, require_fused_forward
from ih_lens.models.hooked_transformer import AbstractAttention, GatedMLP, HookedTransformer, LayerNorm, LayerNormPre


@dataclass(frozen=True, repr=False, eq=False)
class FoldedModel:
    """A model's layers, folded; beside the model it holds about one more copy of their weights, detached.

    Attributes:
        layers: in order.
        final_scale: of the norm before the unembedding.
        final_gain: of that norm, one number per direction of the residual stream.
        W_U: the model's own unembedding matrix.
        b_U: unembedding bias, with the final norm's offset.
        W_E: the model's own embedding matrix.
        W_pos: what positions add to the residual stream, None where nothing.
        is_centred: whether the residual stream is kept centred.
    """

    layers: tuple[FoldedLayer, ...]
    final_scale: Scale
    final_gain: Float[Tensor, "d_model"]
    W_U: Float[Tensor, "d_model d_vocab_out"]
    b_U: Float[Tensor, "d_vocab_out"]
    W_E: Float[Tensor, "d_vocab d_model"]
    W_pos: Float[Tensor, "n_ctx d_model"] | None
    is_centred: bool

    @classmethod
    @torch.no_grad()
    def of(cls, model: HookedTransformer) -> "FoldedModel":
        """Fold a model.

        Raises:
            CapabilityError: for an architecture that the fused forward pass does not cover either.

        Examples:
            >>> len(FoldedModel.of(build_model(attention_only(n_layers=2))).layers)
            2
        """
        require_fused_forward(model)
        final = getattr(model, "ln_final", None) if model.cfg.normalization_type is not None else None
        norms = [norm for block in model.blocks for norm in _norms(block)]
        is_centred = final is not None and all(_centres(norm) for norm in [*norms, final])
        kind: Any = model.cfg.positional_embedding_type
        behind_norm = model.pos_embed.W_pos.detach() if kind == "shortformer" else None
        gain, offset = _gain_and_offset(final, model.unembed.W_U[:, 0])
        return cls(
            layers=tuple(_fold_layer(block, behind_norm, is_centred) for block in model.blocks),
            final_scale=_scale(final, is_centred),
            final_gain=gain,
            W_U=model.unembed.W_U.detach(),
            b_U=(model.unembed.b_U + offset @ model.unembed.W_U).detach(),
            W_E=model.embed.W_E.detach(),
            W_pos=model.pos_embed.W_pos.detach() if kind == "standard" else None,
            is_centred=is_centred,
        )

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream before the first layer."""
        for layer in self.layers:
            layer.reach(tokens.shape[1])
        residual = F.embedding(tokens, self.W_E)
        if self.W_pos is not None:
            residual = residual + self.W_pos[: tokens.shape[1]]
        return centre(residual) if self.is_centred else residual

    def before_unembedding(self, residual: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The final residual stream, normalised but for the final scale: logits are `scale * (this @ W_U) + b_U`."""
        if self.final_scale.centres:
            residual = centre(residual)
        return residual * self.final_gain


def centre(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Less the mean over the last axis."""
    return x - x.mean(-1, keepdim=True)


def _fold_layer(block: Any, positions: Float[Tensor, "n_ctx d_model"] | None, is_centred: bool) -> FoldedLayer:
    """One layer; `positions` are what shortformer models add behind the norm."""
    attention = block.attn
    W_K, W_V, b_K, b_V = key_value_parameters(attention)
    read = partial(_reader, block.ln1, is_centred)
    W_O, b_O = attention.W_O.detach(), attention.b_O.detach()
    alibi = attention.cfg.positional_embedding_type == "alibi"
    rotary = attention.cfg.positional_embedding_type == "rotary"
    window = attention.cfg.window_size if attention.attn_type == "local" else None
    slopes = AbstractAttention.create_alibi_multipliers(attention.cfg.n_heads, W_O.device).to(W_O) if alibi else None
    return FoldedLayer(
        scale=_scale(block.ln1, is_centred),
        queries=read(_rows(attention.W_Q), attention.b_Q.flatten(), positions),
        keys=read(_rows(W_K), b_K.flatten(), positions),
        values=read(_rows(W_V), b_V.flatten(), None),
        W_O=centre(W_O) if is_centred else W_O,
        b_O=centre(b_O) if is_centred else b_O,
        alpha=attention.alpha.detach() if hasattr(attention, "alpha") else None,
        rotation=attention if rotary else None,
        score_scale=1 / float(attention.attn_scale),
        window=None if window is None else int(window),
        slopes=slopes,
        mlp=None if block.cfg.attn_only else _fold_mlp(block, is_centred),
        parallel=bool(block.cfg.parallel_attn_mlp),
    )


def _fold_mlp(block: Any, is_centred: bool) -> FoldedMLP:
    mlp, read = block.mlp, partial(_reader, block.ln2, is_centred)
    gated = isinstance(mlp, GatedMLP)
    no_bias = torch.zeros_like(mlp.b_in)
    W_out, b_out = mlp.W_out.detach(), mlp.b_out.detach()
    return FoldedMLP(
        scale=_scale(block.ln2, is_centred),
        reads=read((mlp.W_gate if gated else mlp.W_in).T, no_bias if gated else mlp.b_in, None),
        gated=read(mlp.W_in.T, no_bias, None) if gated else None,
        neuron_bias=mlp.b_in.detach() if gated else no_bias,
        activate=partial(activate, mlp),
        is_gelu=mlp.cfg.act_fn == "gelu_new",
        W_out=(centre(W_out) if is_centred else W_out).T.contiguous(),
        b_out=centre(b_out) if is_centred else b_out,
    )


def _reader(
    norm: Any,
    is_centred: bool,
    matrix: Float[Tensor, "d_out d_model"],
    bias: Float[Tensor, "d_out"],
    positions: Float[Tensor, "n_ctx d_model"] | None,
) -> Reader:
    """A matrix behind a norm, with the norm's gain, offset and centring in it."""
    gain, offset = _gain_and_offset(norm, matrix[0])
    weight = matrix * gain
    if _centres(norm) and not is_centred:
        weight = centre(weight)
    added = offset[None] if positions is None else positions + offset
    return Reader(weight.detach().contiguous(), (added @ matrix.T + bias).detach())


def _rows(matrices: Float[Tensor, "some_heads d_model d_head"]) -> Float[Tensor, "d_out d_model"]:
    """The matrices of all heads as one, a row per direction of a head."""
    return matrices.transpose(1, 2).flatten(0, 1)


def _norms(block: Any) -> list[Any]:
    return [norm for norm in (block.ln1, getattr(block, "ln2", None)) if norm is not None]


def _centres(norm: Any) -> bool:
    return isinstance(norm, LayerNorm | LayerNormPre)


def _scale(norm: Any, is_centred: bool) -> Scale:
    """What a norm multiplies with; `nn.Identity` and None stand for no norm."""
    return Scale(getattr(norm, "eps", None), centres=_centres(norm) and not is_centred)


def _gain_and_offset(
    norm: Any, like: Float[Tensor, "d_model"]
) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"]]:
    """A norm's gain and offset, one and zero where it has none."""
    gain, offset = getattr(norm, "w", None), getattr(norm, "b", None)
    gain = torch.ones_like(like) if gain is None else gain
    offset = torch.zeros_like(like) if offset is None else offset
    return gain.detach(), offset.detach()
