"""A lean plain PyTorch transformer, as one writes it for training only: no hooks, fused attention."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformer_lens import HookedTransformer


class LeanBlock(nn.Module):
    """Pre-norm causal attention."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after the layer."""
        batch, n_pos, d_model = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, n_pos, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        return x + self.out(z.transpose(1, 2).reshape(batch, n_pos, d_model))


class LeanModel(nn.Module):
    """Attention-only, with learned positions."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_vocab: int, n_ctx: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(d_vocab, d_model)
        self.positions = nn.Parameter(torch.zeros(n_ctx, d_model))
        self.blocks = nn.Sequential(*(LeanBlock(d_model, n_heads) for _ in range(n_layers)))
        self.norm = nn.LayerNorm(d_model)
        self.unembed = nn.Linear(d_model, d_vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        """The mean loss of predicting every token but the first."""
        x = self.blocks(self.embed(tokens) + self.positions[: tokens.shape[1]])
        logits = self.unembed(self.norm(x))[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def lean_copy(model: HookedTransformer) -> LeanModel:
    """The lean model with the weights of an attention-only HookedTransformer with standard positions."""
    cfg, weights = model.cfg, model.state_dict()
    copied = {
        "embed.weight": weights["embed.W_E"],
        "positions": weights["pos_embed.W_pos"],
        "unembed.weight": weights["unembed.W_U"].T,
        "unembed.bias": weights["unembed.b_U"],
        **_norm(weights, "ln_final", "norm"),
    }
    for layer in range(cfg.n_layers):
        attention, block = f"blocks.{layer}.attn.", f"blocks.{layer}."
        matrices = [weights[f"{attention}W_{name}"].permute(0, 2, 1).flatten(0, 1) for name in "QKV"]
        copied |= {
            f"{block}qkv.weight": torch.cat(matrices),
            f"{block}qkv.bias": torch.cat([weights[f"{attention}b_{name}"].flatten() for name in "QKV"]),
            f"{block}out.weight": weights[f"{attention}W_O"].flatten(0, 1).T,
            f"{block}out.bias": weights[f"{attention}b_O"],
            **_norm(weights, f"{block}ln1", f"{block}norm"),
        }
    lean = LeanModel(cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_vocab, cfg.n_ctx)
    lean.load_state_dict(copied)
    return lean.to(cfg.device)


def _norm(weights: Mapping[str, Tensor], original: str, copied: str) -> dict[str, Tensor]:
    return {f"{copied}.weight": weights[f"{original}.w"], f"{copied}.bias": weights[f"{original}.b"]}
