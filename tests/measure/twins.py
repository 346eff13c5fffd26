"""Slow and obvious: activations by TransformerLens's cache, everything else written out."""

import copy

import torch
from transformer_lens import HookedTransformer


def patterns(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """[example, layer, head, query, key]."""
    _, cache = model.run_with_cache(tokens)
    return torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)], dim=1).detach()


def unbiased_values(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """[example, layer, head, pos, d_head]: normalised input, times gain, times W_V, and no bias anywhere."""
    _, cache = model.run_with_cache(tokens)
    layers = []
    for layer, block in enumerate(model.blocks):
        if model.cfg.normalization_type is None:
            normalized = cache["resid_pre", layer]
        else:
            normalized = cache[f"blocks.{layer}.ln1.hook_normalized"] * getattr(block.ln1, "w", 1.0)
        layers.append(torch.einsum("bpm,hmk->bhpk", normalized, block.attn.W_V))
    return torch.stack(layers, dim=1).detach()


def direct_logits(model: HookedTransformer, written: torch.Tensor) -> torch.Tensor:
    """[..., d_vocab]: what something written into the residual stream adds to the centred logits, without scale."""
    if str(model.cfg.normalization_type).startswith("LN"):
        written = written - written.mean(dim=-1, keepdim=True)
    if model.cfg.normalization_type in ("LN", "RMS"):
        written = written * model.ln_final.w
    logits = written @ model.unembed.W_U
    return (logits - logits.mean(dim=-1, keepdim=True)).detach()


def source_logits(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """[example, layer, head, source, d_vocab]: what each source would add to the logits if attended to fully."""
    values = unbiased_values(model, tokens)
    outputs = torch.stack([block.attn.W_O for block in model.blocks])
    return direct_logits(model, torch.einsum("blhpk,lhkm->blhpm", values, outputs))


def processed(model: HookedTransformer, **options: bool) -> HookedTransformer:
    """A copy with TransformerLens's processing of weights; all options that are not named are off."""
    off = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
    changed = copy.deepcopy(model)
    changed.load_and_process_state_dict(changed.state_dict(), **{**off, **options})
    return changed
