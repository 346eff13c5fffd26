"""A lean plain PyTorch transformer, as one writes it for training only: no hooks, fused attention."""

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
        self.blocks = nn.ModuleList(LeanBlock(d_model, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.unembed = nn.Linear(d_model, d_vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        """The mean loss of predicting every token but the first."""
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.unembed(self.norm(x))[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def lean_copy(model: HookedTransformer) -> LeanModel:
    """The lean model with the weights of an attention-only HookedTransformer with standard positions."""
    cfg = model.cfg
    lean = LeanModel(cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_vocab, cfg.n_ctx).to(cfg.device)
    lean.embed.weight.copy_(model.embed.W_E)
    lean.positions.copy_(model.pos_embed.W_pos)
    for block, original in zip(lean.blocks, model.blocks, strict=True):
        attention = original.attn
        _copy_norm(block.norm, original.ln1)
        matrices = [matrix.permute(0, 2, 1).flatten(0, 1) for matrix in (attention.W_Q, attention.W_K, attention.W_V)]
        block.qkv.weight.copy_(torch.cat(matrices))
        block.qkv.bias.copy_(torch.cat([bias.flatten() for bias in (attention.b_Q, attention.b_K, attention.b_V)]))
        block.out.weight.copy_(attention.W_O.flatten(0, 1).T)
        block.out.bias.copy_(attention.b_O)
    _copy_norm(lean.norm, model.ln_final)
    lean.unembed.weight.copy_(model.unembed.W_U.T)
    lean.unembed.bias.copy_(model.unembed.b_U)
    return lean


def _copy_norm(norm: nn.Module, original: nn.Module) -> None:
    norm.weight.copy_(original.w)
    norm.bias.copy_(original.b)
