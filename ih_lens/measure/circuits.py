"""Measures of the weights alone: eigenvalues of the OV circuit, and of the previous-token term of the QK circuit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.models.effective import effective_weights
from ih_lens.types import ModelLike
from ih_lens.validate import finite_weights


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
        CapabilityError: if norms stand between the heads and the residual stream.
        InputError: if the weights hold NaN or infinity.

    Examples:
        >>> ov_copying_eigenvalue_score(model).shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    finite_weights(model)
    if model.cfg.d_vocab != model.cfg.d_vocab_out:
        return torch.full((model.cfg.n_layers, model.cfg.n_heads), torch.nan)
    weights = effective_weights(model)
    through_vocabulary = weights.W_U @ weights.W_E
    products = (weights.W_O @ through_vocabulary @ weights.W_V).cpu()
    eigenvalues = torch.linalg.eigvals(products.double())
    scores = eigenvalues.real.sum(dim=-1) / eigenvalues.abs().sum(dim=-1)
    # a circuit that is zero but for rounding has eigenvalues that mean nothing
    factors = (weights.W_O, weights.W_U, weights.W_E, weights.W_V)
    sizes = torch.stack([torch.linalg.matrix_norm(factor).cpu().expand(scores.shape) for factor in factors]).prod(dim=0)
    is_zero = torch.linalg.matrix_norm(products) <= torch.finfo(products.dtype).eps * sizes
    return scores.masked_fill(is_zero, torch.nan).to(products.dtype)


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
        CapabilityError: if norms stand between the heads and the residual stream.
        InputError: if the scores have another shape, or the weights hold NaN or infinity.

    Examples:
        >>> trace = qk_eigenvalue_trace(model, previous_token_score(model, tokens))
        >>> trace[0].isnan().all()
        tensor(True)
    """
    finite_weights(model)
    weights = effective_weights(model)
    shares = _as_scores(previous_token_scores, model.cfg.n_layers, model.cfg.n_heads).to(weights.W_E)
    gram = weights.W_E.T @ weights.W_E
    written = torch.zeros_like(gram)  # the sum of p_k W_V^k W_O^k over the heads of all layers so far
    traces = torch.full_like(shares, torch.nan)
    for layer in range(model.cfg.n_layers):
        if layer > 0:
            traces[layer] = ((gram @ weights.W_Q[layer]) * (written @ weights.W_K[layer])).sum(dim=(-2, -1))
        written = written + torch.einsum("h,hmk,hkn->mn", shares[layer], weights.W_V[layer], weights.W_O[layer])
    return traces.cpu()


def _as_scores(scores: Any, n_layers: int, n_heads: int) -> Float[Tensor, "layer head"]:
    """Scores of every head as a tensor, from a tensor, an array or a labelled array."""
    tensor = scores.detach() if isinstance(scores, Tensor) else torch.as_tensor(np.asarray(scores).copy())
    if tensor.shape != (n_layers, n_heads) or not tensor.is_floating_point():
        raise InputError(
            f"previous_token_scores: expected floating-point numbers [layer, head] of shape ({n_layers}, {n_heads}), "
            f"got {tuple(tensor.shape)} {tensor.dtype}; pass previous_token_score(model, tokens)"
        )
    return tensor
