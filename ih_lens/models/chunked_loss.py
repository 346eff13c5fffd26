"""Unembedding and cross-entropy together, chunk by chunk: the logits of all positions are never held at once."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_ENTRIES = {"cpu": 2**20}
"""Logits that stay in the cache of a CPU; elsewhere `_OTHER_ENTRIES`, enough to keep a GPU busy."""
_OTHER_ENTRIES = 2**26
_LEAST_ROWS = 256
"""Fewer would spend the time on adding up the gradient of the unembedding matrix."""


def chunked_loss(
    x: Float[Tensor, "example d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    b_U: Float[Tensor, " d_vocab"],
    targets: Int[Tensor, " example"],
) -> Float[Tensor, ""]:
    """The mean cross-entropy of x W_U + b_U at the targets, in nats; differentiable once in x, W_U and b_U.

    The gradients are computed together with the loss, while the logits of a chunk are at hand. Under autocast the
    products are computed in its dtype, the loss in float32. Its graph can be walked backward once.

    Examples:
        >>> x, W_U, b_U = torch.randn(10, 4), torch.randn(4, 7), torch.zeros(7)
        >>> targets = torch.arange(10) % 7
        >>> torch.allclose(chunked_loss(x, W_U, b_U, targets), F.cross_entropy(x @ W_U + b_U, targets))
        True
    """
    if len(x) <= _chunk(x, len(b_U)):
        return F.cross_entropy(F.linear(x, W_U.T, b_U).to(b_U.dtype), targets)
    loss: Tensor = _ChunkedLoss.apply(x, W_U, b_U, targets, torch.is_grad_enabled())  # pyright: ignore[reportAssignmentType]
    return loss


def _chunk(x: Tensor, d_vocab: int) -> int:
    """How many rows of logits are held at once."""
    return max(_LEAST_ROWS, _CHUNK_ENTRIES.get(x.device.type, _OTHER_ENTRIES) // d_vocab)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W_U: Tensor, b_U: Tensor, targets: Tensor, with_gradients: bool) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            loss, ctx.grads = _loss_and_gradients(x, W_U, b_U, targets, dtype, with_gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of chunked_loss were used already: call it again")
        grads, ctx.grads = ctx.grads, None
        return *(part.mul_(grad / len(grads[0])) for part in grads), None, None


def _loss_and_gradients(
    x: Tensor, W_U: Tensor, b_U: Tensor, targets: Tensor, dtype: torch.dtype, with_gradients: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor] | None]:
    """The mean loss, and the gradients of its sum for x, W_U and b_U; products in `dtype`, sums in the weights'."""
    n_rows, d_vocab = len(x), len(b_U)
    chunk = _chunk(x, d_vocab)
    rows, W, bias = x.to(dtype), W_U.to(dtype), b_U.to(dtype)
    total = torch.zeros((), dtype=b_U.dtype, device=x.device)
    grads = (torch.empty_like(x), torch.empty_like(W_U), torch.zeros_like(b_U)) if with_gradients else None
    buffer = torch.empty(chunk, d_vocab, dtype=dtype, device=x.device)
    for start in range(0, n_rows, chunk):
        here = slice(start, min(start + chunk, n_rows))
        target = targets[here, None]
        logits = torch.mm(rows[here], W, out=buffer[: len(target)]).add_(bias).to(b_U.dtype)
        total += logits.amax(1).sum() - logits.gather(1, target).sum()
        share = torch.softmax(logits, 1, out=logits)
        total -= share.amax(1).log_().sum()
        if grads is not None:
            share.scatter_add_(1, target, share.new_full((1, 1), -1.0).expand_as(target))
            grads[2].add_(share.sum(0))
            share = share.to(dtype)
            grads[0][here] = share @ W.T
            _add_product(grads[1], rows[here], share, first=start == 0)
    return total / n_rows, grads


def _add_product(to: Tensor, rows: Tensor, share: Tensor, *, first: bool) -> None:
    """`to` += rows^T share, or = where this is the first; transposed, because that is the faster product."""
    if rows.dtype == to.dtype:
        torch.addmm(to.T, share.T, rows, beta=0 if first else 1, out=to.T)
    elif first:
        to.copy_(rows.T @ share)
    else:
        to += rows.T @ share
