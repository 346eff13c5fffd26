"""Causal attention in blocks of queries: no score of a later key is computed, and no [pos, pos] matrix formed."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 128
"""Queries per block: fewer skip more scores, more give larger products."""
_SCORES_ON_CPU = 2**20
"""Scores that exist at once, so few that they stay in the caches."""


def causal_attention(
    q: Float[Tensor, "batch head_index pos d_head"],
    k: Float[Tensor, "batch head_index pos d_head"],
    v: Float[Tensor, "batch head_index pos d_value"],
    *,
    scale: float,
    window: int | None = None,
    slopes: Float[Tensor, " head_index"] | None = None,
) -> Float[Tensor, "batch head_index pos d_value"]:
    """softmax(scale q k^T + ALiBi, causal) v; differentiable once in q, k and v.

    Args:
        q: queries.
        k: keys.
        v: values, of any width.
        scale: factor of the scores.
        window: how many keys a query sees, itself included (local attention); None for all before it.
        slopes: of ALiBi, positive: what a head's score loses per position of distance; None without ALiBi.

    Examples:
        >>> q, k, v = torch.randn(3, 1, 2, 300, 8)
        >>> z = causal_attention(q, k, v, scale=8**-0.5)
        >>> torch.allclose(z, F.scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-5)
        True
    """
    if q.is_cuda and window is None and slopes is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    n_together = max(1, _SCORES_ON_CPU // (q.shape[1] * min(_BLOCK, q.shape[2]) * q.shape[2]))
    if q.device.type != "cpu" or len(q) <= n_together:
        return _attended(q, k, v, scale, window, slopes)
    slices = [slice(start, start + n_together) for start in range(0, len(q), n_together)]
    return torch.cat([_attended(q[some], k[some], v[some], scale, window, slopes) for some in slices])


def pattern_blocks(
    q: Float[Tensor, "batch head_index pos d_head"],
    k: Float[Tensor, "batch head_index pos d_head"],
    *,
    scale: float,
    window: int | None = None,
    slopes: Float[Tensor, " head_index"] | None = None,
) -> Iterator[tuple[int, int, Float[Tensor, "batch head_index query_pos key_pos"]]]:
    """The attention pattern of `causal_attention`, block by block; for use without gradients.

    Yields:
        start, stop and pattern[:, :, start:stop, :stop]; what it leaves out is zero.
    """
    for start, stop, first, pattern in _blocks(q, k, scale, window, slopes):
        yield start, stop, F.pad(pattern, (first, 0)) if first else pattern


def _attended(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, slopes: Tensor | None) -> Tensor:
    z: Any = _CausalAttention.apply(q, k, v, scale, window, slopes)
    return z


class _CausalAttention(torch.autograd.Function):
    """Keeps the patterns that are not zero, block by block, for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, slopes: Tensor | None
    ) -> Tensor:
        v = v.contiguous()
        z, spans, patterns = torch.empty_like(v), [], []
        heads_of_v, heads_of_z = v.flatten(0, 1), z.flatten(0, 1)
        for start, stop, first, pattern in _blocks(q, k, scale, window, slopes):
            torch.bmm(pattern.flatten(0, 1), heads_of_v[:, first:stop], out=heads_of_z[:, start:stop])
            if any(ctx.needs_input_grad):
                spans.append((start, stop, first))
                patterns.append(pattern)
        ctx.scale, ctx.spans = scale, spans
        ctx.save_for_backward(q, k, v, *patterns)
        return z

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, *patterns = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        for (start, stop, first), pattern in zip(ctx.spans, patterns, strict=True):
            seen, here = slice(first, stop), slice(start, stop)
            grad_v[:, :, seen] += pattern.mT @ grad[:, :, here]
            grad_pattern = grad[:, :, here] @ v[:, :, seen].mT
            grad_scores = torch.ops.aten._softmax_backward_data(grad_pattern, pattern, -1, pattern.dtype)
            grad_scores *= ctx.scale
            grad_q[:, :, here] = grad_scores @ k[:, :, seen]
            grad_k[:, :, seen] += grad_scores.mT @ q[:, :, here]
        return grad_q, grad_k, grad_v, None, None, None


def _blocks(
    q: Tensor, k: Tensor, scale: float, window: int | None, slopes: Tensor | None
) -> Iterator[tuple[int, int, int, Tensor]]:
    """Start and stop of the queries, the first key they see, and the pattern over the keys from there to stop."""
    n_examples, n_heads, n_pos, _ = q.shape
    q, keys = (q * scale).flatten(0, 1).contiguous(), k.flatten(0, 1).mT.contiguous()
    later = torch.full((min(_BLOCK, n_pos),) * 2, -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    for start in range(0, n_pos, _BLOCK):
        stop = min(start + _BLOCK, n_pos)
        n_queries = stop - start
        first = 0 if window is None else max(0, start - window + 1)
        scores = torch.bmm(q[:, start:stop], keys[:, :, first:stop])
        scores[..., start - first :] += later[:n_queries, :n_queries]
        scores = scores.unflatten(0, (n_examples, n_heads))
        if window is not None or slopes is not None:
            distance = torch.arange(start, stop, device=q.device)[:, None] - torch.arange(first, stop, device=q.device)
            if window is not None:
                scores.masked_fill_(distance >= window, -torch.inf)
            if slopes is not None:
                scores -= slopes[:, None, None] * distance
        yield start, stop, first, torch.softmax(scores, -1, out=scores)
