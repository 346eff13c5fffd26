"""Smeared keys: every key is mixed with the key before it, so that one layer can express induction heads.

The paper's "Smeared Key Models" (Model Details, Argument 2): k_j = σ(α) k_j + (1 - σ(α)) k_{j-1} with one
trainable α per head; the first key stays as it is.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.hook_points import HookPoint

from ih_lens.models.hooked_transformer import AbstractAttention, Attention, GroupedQueryAttention, HookedTransformer


def smear_keys(
    keys: Float[Tensor, "batch pos head_index d_head"],
    alpha: Float[Tensor, "alpha_head"],
    *,
    real: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos head_index d_head"]:
    """Mix every key with the key before it.

    Args:
        keys: keys before any rotation.
        alpha: one parameter per key-value head; its sigmoid is the share of the key itself. Where the keys were
            already repeated for grouped queries, it is repeated with them.
        real: nonzero for tokens, zero for padding; the first token after padding is not mixed with it.

    Returns:
        The smeared keys; the first one is unchanged.

    Examples:
        >>> smear_keys(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.zeros(1)).flatten()
        tensor([1., 2.])
    """
    share = torch.sigmoid(alpha).repeat_interleave(keys.shape[2] // alpha.shape[0]).to(keys.dtype)[:, None]
    before = keys[:, :-1]
    if real is not None:
        before = torch.where(real[:, :-1, None, None].bool(), before, keys[:, 1:])
    return torch.cat([keys[:, :1], share * keys[:, 1:] + (1 - share) * before], dim=1)


@dataclass
class _SmearingEntry:
    """Stands in for a layer's key-value cache entry, whether there is one or not.

    TransformerLens appends keys to the entry after normalising and before rotating them, and goes on with what
    comes back: exactly where keys must be smeared. The entry behind it keeps the raw keys, so the key before
    the first new one is at hand when text is generated token by token.
    """

    attention: "_SmearedKeys"
    entry: TransformerLensKeyValueCacheEntry | None
    attention_mask: Tensor | None

    @property
    def past_keys(self) -> Tensor:
        """The raw keys so far; TransformerLens reads their number."""
        return self.entry.past_keys if self.entry is not None else torch.empty(0, 0, device="cpu")

    def append(self, new_keys: Tensor, new_values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the raw keys and values; return all keys smeared, and all values."""
        keys, values = (new_keys, new_values) if self.entry is None else self.entry.append(new_keys, new_values)
        smeared = smear_keys(keys, self.attention.alpha, real=self.attention_mask)
        return self.attention.hook_smeared_k(smeared), values


class _SmearedKeys(AbstractAttention):
    """Adds the parameter `alpha` and the hook point `hook_smeared_k` to an attention layer."""

    alpha: nn.Parameter
    hook_smeared_k: HookPoint

    def _add_smearing(self, n_key_heads: int) -> None:
        self.alpha = nn.Parameter(torch.zeros(n_key_heads, dtype=self.cfg.dtype, device="cpu"))
        self.hook_smeared_k = HookPoint()  # [batch, pos, head_index, d_head]

    def forward(
        self,
        query_input: Tensor,
        key_input: Tensor,
        value_input: Tensor,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None = None,
        additive_attention_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """Attend as the layer without smearing does, with smeared keys."""
        entry: Any = _SmearingEntry(self, past_kv_cache_entry, attention_mask)
        return super().forward(
            query_input, key_input, value_input, entry, additive_attention_mask, attention_mask, position_bias
        )


class SmearedKeyAttention(_SmearedKeys, Attention):
    """Attention with smeared keys.

    Attributes:
        alpha: [n_heads], σ(alpha) is each key's own share; 0 at the start.
        hook_k: the raw keys.
        hook_smeared_k: the smeared keys, before rotary embedding.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._add_smearing(self.cfg.n_heads)


class SmearedKeyGroupedQueryAttention(_SmearedKeys, GroupedQueryAttention):
    """Grouped-query attention with smeared keys; `alpha` is [n_key_value_heads], else as `SmearedKeyAttention`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._add_smearing(self._W_K.shape[0])


def add_smeared_keys(model: HookedTransformer) -> None:
    """Give every layer of a newly built model smeared keys; all other weights stay as they are."""
    for block in model.blocks:
        plain = block.attn
        kind = SmearedKeyGroupedQueryAttention if isinstance(plain, GroupedQueryAttention) else SmearedKeyAttention
        smeared = kind(model.cfg, plain.attn_type, plain.layer_id)
        smeared.load_state_dict(plain.state_dict(), strict=False)
        block.attn = smeared
    model.setup()


def has_smeared_keys(model: Any) -> bool:
    """Whether the model's attention layers smear their keys.

    Examples:
        >>> has_smeared_keys(build_model(attention_only(1), smeared_keys=True))
        True
    """
    return any(isinstance(getattr(block, "attn", None), _SmearedKeys) for block in getattr(model, "blocks", ()))
