"""Causal attention in blocks of queries: no score of a later key is computed, and no [pos, pos] matrix formed."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 128
"""Queries per block: fewer skip more scores, more give larger products."""
_CACHED_SCORES = 2**19
"""On a CPU, scores computed at once: those of 8 heads in 512 positions, which its cache holds until they are used."""
_KEPT_SCORES = 2**25
"""Patterns of at most so many entries are kept for the gradients; larger ones are computed again."""


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
    if torch.is_autocast_enabled(q.device.type):
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    if q.is_cuda and window is None and slopes is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    z: Tensor = _CausalAttention.apply(q, k, v, _Scores(q, scale, window, slopes), torch.is_grad_enabled())  # pyright: ignore[reportAssignmentType]
    return z


def pattern_blocks(
    q: Float[Tensor, "batch head_index pos d_head"],
    k: Float[Tensor, "batch head_index pos d_head"],
    *,
    scale: float,
    window: int | None = None,
    slopes: Float[Tensor, " head_index"] | None = None,
) -> Iterator[tuple[int, int, Float[Tensor, "batch head_index query_pos key_pos"]]]:
    """The attention pattern of `causal_attention`, block by block, without gradients.

    Yields:
        start, stop and pattern[:, :, start:stop, :stop]; what it leaves out is zero.
    """
    q, k = q.detach(), k.detach()
    scores = _Scores(q, scale, window, slopes)
    flat_q, flat_k = scores.scaled(q).flatten(0, 1), k.contiguous().flatten(0, 1)
    everything = (slice(0, len(q)), slice(0, q.shape[1]))
    for start, stop, first in scores.blocks():
        pattern = scores.pattern(flat_q, flat_k, (start, stop, first), everything).unflatten(0, q.shape[:2])
        yield start, stop, F.pad(pattern, (first, 0)) if first else pattern


class _Scores:
    """How patterns follow from queries and keys, for queries like `q`.

    A piece is a slice of examples and one of heads, its tensors [item, pos, d_head], an item being a head in an
    example. A block is start and stop of some queries, and the first key that they see.
    """

    def __init__(self, q: Tensor, scale: float, window: int | None, slopes: Tensor | None) -> None:
        self.shape, self.scale, self.window, self.slopes = q.shape, scale, window, slopes
        side = min(_BLOCK, q.shape[2])
        self.later = torch.full((side, side), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)

    def scaled(self, q: Tensor) -> Tensor:
        """Queries times the scale, contiguous."""
        return torch.mul(q, self.scale, out=torch.empty(q.shape, dtype=q.dtype, device=q.device))

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """All heads of some examples, or some heads of one, so that their scores stay in the cache of a CPU."""
        n_examples, n_heads, n_pos, _ = self.shape
        together = n_examples * n_heads
        if self.later.device.type == "cpu":
            together = max(1, _CACHED_SCORES // (len(self.later) * n_pos))
        examples, heads = max(1, together // n_heads), min(together, n_heads)
        for example in range(0, n_examples, examples):
            for head in range(0, n_heads, heads):
                yield slice(example, min(example + examples, n_examples)), slice(head, min(head + heads, n_heads))

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Blocks of queries, in order."""
        n_pos = self.shape[2]
        for start in range(0, n_pos, _BLOCK):
            first = 0 if self.window is None else max(0, start - self.window + 1)
            yield start, min(start + _BLOCK, n_pos), first

    def pattern(
        self,
        q: Tensor,
        k: Tensor,
        block: tuple[int, int, int],
        piece: tuple[slice, slice],
        room: Tensor | None = None,
    ) -> Tensor:
        """The pattern of a block over the keys from its first to its stop, from scaled queries and keys of a piece.

        `room` is memory for it, used again for every block: fresh memory costs more than the product.
        """
        start, stop, first = block
        shape = (len(q), stop - start, stop - first)
        scores = q.new_empty(shape) if room is None else room[: math.prod(shape)].view(shape)
        torch.bmm(q[:, start:stop], k[:, first:stop].mT, out=scores)
        scores[:, :, start - first :] += self.later[: stop - start, : stop - start]
        if self.window is not None or self.slopes is not None:
            positions = torch.arange(first, stop, device=q.device)
            distance = positions[start - first :, None] - positions
            if self.window is not None:
                scores.masked_fill_(distance >= self.window, -torch.inf)
            if self.slopes is not None:
                slopes = self.slopes[piece[1]].to(q.dtype)
                scores -= slopes.repeat(piece[0].stop - piece[0].start)[:, None, None] * distance
        return torch.softmax(scores, -1, out=scores)


class _CausalAttention(torch.autograd.Function):
    """Goes through pieces and blocks so that scores are used while they are in the cache."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scores: _Scores, with_gradients: bool) -> Tensor:
        q, k, v = scores.scaled(q), k.contiguous(), v.contiguous()
        kept: list[Tensor] | None = None
        if with_gradients and q.shape[:3].numel() * q.shape[2] <= _KEPT_SCORES:
            kept = []
        # laid out as [batch, pos, head_index, d_value], which is what reads it
        z = v.new_empty(v.transpose(1, 2).shape).transpose(1, 2)
        room = None
        for piece in scores.pieces():
            items = [_items(x, piece) for x in (q, k, v)]
            if kept is None and room is None:
                room = q.new_empty(len(items[0]) * len(scores.later) * q.shape[2])
            _attend(items, scores, piece, z[piece], kept if kept is not None else room)
        if with_gradients:
            ctx.scores, ctx.is_kept = scores, kept is not None
            ctx.save_for_backward(q, k, v, *(kept or ()))
        return z

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, *patterns = ctx.saved_tensors
        inputs, kept = (q, k, v, grad.contiguous()), patterns if ctx.is_kept else None
        pieces = list(ctx.scores.pieces())[::-1]  # backwards, as the blocks, so that the last pattern kept is next
        if len(pieces) == 1:
            found = _gradients([x.flatten(0, 1) for x in inputs], ctx.scores, pieces[0], kept)
            return *(values.view(x.shape) for values, x in zip(found, (q, k, v), strict=True)), None, None
        grads = tuple(torch.empty_like(x) for x in (q, k, v))
        for piece in pieces:
            found = _gradients([_items(x, piece) for x in inputs], ctx.scores, piece, kept)
            for to, values in zip(grads, found, strict=True):
                _fill(to[piece], values)
        return *grads, None, None


def _attend(
    inputs: Sequence[Tensor], scores: _Scores, piece: tuple[slice, slice], z: Tensor, kept: list[Tensor] | Tensor | None
) -> None:
    """Fill z with what a piece attends to, from scaled q, k and v.

    Its patterns are appended to `kept`, or if that is memory, computed there.
    """
    q, k, v = inputs
    room = kept if isinstance(kept, Tensor) else None
    for start, stop, first in scores.blocks():
        pattern = scores.pattern(q, k, (start, stop, first), piece, room)
        _fill(z[:, :, start:stop], pattern @ v[:, first:stop])
        if isinstance(kept, list):
            kept.append(pattern)


def _gradients(
    inputs: Sequence[Tensor], scores: _Scores, piece: tuple[slice, slice], kept: list[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a piece for q, k and v; patterns that were not kept are computed again.

    Args:
        inputs: scaled q, k, v and the gradient for what they attend to.
        scores: how patterns follow from them.
        piece: where they belong.
        kept: its patterns, block by block, at the end.
    """
    q, k, v, grad = inputs
    of_q: list[Tensor] = []
    grad_k, grad_v = _Sum(k), _Sum(v)
    for start, stop, first in list(scores.blocks())[::-1]:
        here, seen = slice(start, stop), slice(first, stop)
        pattern = kept.pop() if kept is not None else scores.pattern(q, k, (start, stop, first), piece)
        of_scores = grad[:, here] @ v[:, seen].mT
        torch.ops.aten._softmax_backward_data.out(of_scores, pattern, -1, q.dtype, grad_input=of_scores)
        of_q.append(of_scores @ k[:, seen])
        grad_k.add(seen, of_scores.mT @ q[:, here])
        grad_v.add(seen, pattern.mT @ grad[:, here])
    grad_q = of_q[0] if len(of_q) == 1 else torch.cat(of_q[::-1], 1)
    return grad_q.mul_(scores.scale), grad_k.total, grad_v.total


class _Sum:
    """What is added up over blocks for every key; the first block, if it sees all keys, is not copied."""

    def __init__(self, like: Tensor) -> None:
        self.total, self._begun = like, False

    def add(self, seen: slice, values: Tensor) -> None:
        """Add values at some keys."""
        if not self._begun:
            whole = values.shape == self.total.shape
            self.total = values if whole else torch.zeros_like(self.total)
            self._begun = True
            if whole:
                return
        self.total[:, seen] += values


def _items(x: Tensor, piece: tuple[slice, slice]) -> Tensor:
    return x[piece].flatten(0, 1)


def _fill(x: Tensor, values: Tensor) -> None:
    x.copy_(values.view(x.shape))
