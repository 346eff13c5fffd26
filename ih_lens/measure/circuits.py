"""Measures of the weights alone: eigenvalues of the OV circuit, and of the previous-token term of the QK circuit."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.models.capabilities import require_causal, require_no_post_norms
from ih_lens.models.effective import (
    fold_embedding,
    fold_reading,
    fold_unembedding,
    layer_matrix,
    norm_gain,
    plain_matrix,
    precise,
    reading_matrix,
)
from ih_lens.models.matmul import fastest_float32
from ih_lens.types import ModelLike
from ih_lens.validate import finite_weights

_TOKENS_PER_PIECE = 1024
"""Of the vocabulary: so few that the pieces of W_E and W_U stay in a CPU's caches."""
_GRAM_BLOCK = 192
"""Columns of the embedding multiplied at once: fewer skip more of the half that is known, more are faster."""


@torch.no_grad()
def ov_copying_eigenvalue_score(model: ModelLike) -> Float[Tensor, "layer head"]:
    """How far the eigenvalues of each head's full OV circuit W_E W_V W_O W_U are positive.

    The score is the sum of their real parts over the sum of their moduli, with the effective weights (LayerNorm's
    gain and centring in them, its scale and all biases left out). The eigenvalues are taken from the product of size
    d_head x d_head that has the same ones beside zeros. (Elhage et al. 2021; the paper's appendix validates its
    copying score with it.)

    Returns:
        Scores in [-1, 1]; 1 if all eigenvalues are real and positive, as for a head that copies. NaN for heads
        whose circuit is zero, and for all heads where input and output vocabularies differ.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream, or the model does not predict
            each token from those before it.
        InputError: if weights that enter hold NaN or infinity, or their product overflows.

    Examples:
        >>> ov_copying_eigenvalue_score(model).shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    require_causal(model)
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        return torch.full((model.cfg.n_layers, model.cfg.n_heads), torch.nan, device="cpu")
    require_no_post_norms(model, "measuring with effective weights")
    with fastest_float32():
        through_vocabulary, size = _through_vocabulary(model)
        products, sizes = [], []
        for layer in range(model.cfg.n_layers):
            # both ends of the product have lost what the effective matrices remove
            W_O, W_V = (plain_matrix(model, name, layer).to(size.device) for name in ("W_O", "W_V"))
            read = fold_reading(model, through_vocabulary, layer)
            half = (W_O.flatten(0, 1) @ read).unflatten(0, W_O.shape[:2])
            products.append((half @ W_V).cpu())
            sizes.append((torch.linalg.matrix_norm(W_O) * size * torch.linalg.matrix_norm(W_V)).cpu())
    circuits = torch.stack(products)
    if not circuits.isfinite().all():  # nothing that is not finite is lost in a product
        finite_weights(model)
        precision = str(circuits.dtype).removeprefix("torch.")
        raise InputError(f"the OV circuits overflow {precision}: the weights are too large; load the model in float64")
    eigenvalues = torch.linalg.eigvals(circuits)
    scores = eigenvalues.real.sum(dim=-1) / eigenvalues.abs().sum(dim=-1)
    # a circuit that is zero but for rounding has eigenvalues that mean nothing
    is_zero = torch.linalg.matrix_norm(circuits) <= torch.finfo(circuits.dtype).eps * torch.stack(sizes)
    return scores.masked_fill(is_zero, torch.nan).to(circuits.dtype)


@torch.no_grad()
def qk_eigenvalue_trace(
    model: ModelLike, previous_token_scores: Tensor | Sequence[Sequence[float]] | Any
) -> Float[Tensor, "layer head"]:
    """Trace of the previous-token term of each head's QK circuit (paper, Data Collection (4)).

    For a head h in layer 1 or later, W is the sum over all heads k of earlier layers of
    p_k W_E W_Q^h (W_K^h)^T (W_V^k W_O^k)^T W_E^T, with p_k the previous-token score of k. Its trace, the sum of its
    eigenvalues, is large where h matches a token with what previous-token heads say of the token before the key:
    the usual mechanism of prefix matching. It is computed through the Gram matrix of the embedding. Effective weights
    are used (LayerNorm's gain and centring in them, its scale and all biases left out).

    Positions do not enter: for rotary models, and with smeared keys, this is a part of the mechanism only.

    Args:
        model: any HookedTransformer.
        previous_token_scores: [layer, head] of any floating-point type, as of `previous_token_score`.

    Returns:
        Traces, unbounded; positive for same-matching. NaN in layer 0, where there is no earlier head.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream, or the model does not predict
            each token from those before it.
        InputError: if the scores have another shape, or weights that enter hold NaN or infinity.

    Examples:
        >>> trace = qk_eigenvalue_trace(model, previous_token_score(model, tokens))
        >>> trace[0].isnan().all()
        tensor(True)
    """
    require_causal(model)
    require_no_post_norms(model, "measuring with effective weights")
    shares = _as_scores(previous_token_scores, model.cfg.n_layers, model.cfg.n_heads)
    with fastest_float32():
        gram = _embedding_gram(model)
        shares = shares.to(gram)
        written = torch.zeros_like(gram)  # the sum of p_k W_V^k W_O^k over the heads of all layers so far
        traces = torch.full_like(shares, torch.nan)
        for layer in range(model.cfg.n_layers):
            if layer > 0:
                # both have lost their mean already, where the layer removes it
                matched, keyed = (fold_reading(model, rows, layer) for rows in (gram, written))
                W_Q, W_K = (_side_by_side(reading_matrix(model, name, layer).to(gram)) for name in ("W_Q", "W_K"))
                products = ((matched @ W_Q) * (keyed @ W_K)).sum(dim=0)
                traces[layer] = products.unflatten(0, (len(shares[layer]), -1)).sum(dim=-1)
            if layer < model.cfg.n_layers - 1:
                W_V, W_O = (layer_matrix(model, name, layer).to(gram) for name in ("W_V", "W_O"))
                written.addmm_(_side_by_side(shares[layer][:, None, None] * W_V), W_O.flatten(0, 1))
    if not traces[1:].isfinite().all():  # nothing that is not finite is lost in a product
        finite_weights(model)
    return traces.cpu()


def _through_vocabulary(
    model: ModelLike,
) -> tuple[Float[Tensor, "d_model d_model"], Float[Tensor, ""]]:
    """The effective W_U W_E, and the product of their sizes, by which its rounding errors are measured.

    Both matrices are read in pieces and never copied whole. W_E is centred over the vocabulary instead of W_U: their
    product is the same, as the part of W_U that is equal for all tokens meets a sum of zero.
    """
    W_U, W_E = cast(Any, model).unembed.W_U.detach(), cast(Any, model).embed.W_E.detach()
    dtype = torch.promote_types(W_E.dtype, torch.float32)
    mean = _mean_row(W_E)
    product, centred = mean.new_zeros(len(W_U), len(mean)), mean.new_empty(_TOKENS_PER_PIECE, len(mean))
    for start in range(0, len(W_E), _TOKENS_PER_PIECE):
        tokens = slice(start, start + _TOKENS_PER_PIECE)
        rows = precise(W_E[tokens])
        product.addmm_(precise(W_U[:, tokens]).to(mean), torch.sub(rows, mean, out=centred[: len(rows)]))
    row_sizes = torch.linalg.vector_norm(W_U, dim=1, dtype=dtype).to(mean)
    gain = norm_gain(getattr(model, "ln_final", None), model.cfg)
    size = torch.linalg.vector_norm(row_sizes if gain is None else row_sizes * gain)
    size = size * torch.linalg.vector_norm(W_E, dtype=dtype)
    return fold_embedding(model, fold_unembedding(model, product)), size


def _mean_row(rows: Float[Tensor, "n width"]) -> Float[Tensor, "width"]:
    """The mean over rows, as a product where that is exact enough: it is twice as fast."""
    if rows.dtype.itemsize < 4:
        return rows.mean(dim=0, dtype=torch.float32)
    return (rows.new_full((1, len(rows)), 1 / len(rows)) @ rows)[0]


def _embedding_gram(model: ModelLike) -> Float[Tensor, "d_model d_model"]:
    """The effective W_E^T W_E; of its two equal halves one is computed."""
    W_E = precise(cast(Any, model).embed.W_E)
    gram = W_E.new_empty(W_E.shape[1], W_E.shape[1])
    for start in range(0, len(gram), _GRAM_BLOCK):
        stop = min(start + _GRAM_BLOCK, len(gram))
        block = W_E[:, start:stop].T @ W_E[:, start:]
        gram[start:stop, start:] = block
        gram[start:, start:stop] = block.T
    return fold_embedding(model, fold_embedding(model, gram).T)


def _side_by_side(matrices: Float[Tensor, "head_index d_model d_head"]) -> Float[Tensor, "d_model columns"]:
    """The matrices of all heads as one."""
    return matrices.transpose(0, 1).flatten(1)


def _as_scores(scores: Any, n_layers: int, n_heads: int) -> Float[Tensor, "layer head"]:
    """Scores of every head as a tensor, from a tensor, an array or a labelled array."""
    tensor = scores.detach() if isinstance(scores, Tensor) else torch.as_tensor(np.asarray(scores).copy(), device="cpu")
    if tensor.shape != (n_layers, n_heads) or not tensor.is_floating_point():
        raise InputError(
            f"previous_token_scores: expected floating-point numbers [layer, head] of shape ({n_layers}, {n_heads}), "
            f"got {tuple(tensor.shape)} {tensor.dtype}; pass previous_token_score(model, tokens)"
        )
    return tensor
