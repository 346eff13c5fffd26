"""Composition of heads, from weights alone: how far a later head reads what an earlier one writes."""

from typing import Literal, TypeAlias

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.models.capabilities import require_causal, require_no_post_norms
from ih_lens.models.effective import layer_matrix, plain_matrix
from ih_lens.models.matmul import fastest_float32
from ih_lens.results import json_safe, to_numpy
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, finite_weights, one_of

MatrixName: TypeAlias = Literal["W_Q", "W_K", "W_V", "W_O"]

READS: dict[str, tuple[MatrixName, MatrixName]] = {"k": ("W_K", "W_Q"), "q": ("W_Q", "W_K"), "v": ("W_V", "W_O")}
"""Kinds of composition: the later head's matrix that reads the residual stream, and the other one of its circuit."""

_CIRCUITS = {"k": "W_K W_Q^T", "q": "W_Q W_K^T", "v": "W_V W_O"}
_ROUNDING = 8
"""Circuits smaller than so many rounding errors of the matrices that they are made of count as zero."""


@torch.no_grad()
def composition_scores(model: ModelLike, kind: str = "k", *, n_draws: int = 64, seed: int = 0) -> xr.DataArray:
    """How strongly each head composes with each head of earlier layers.

    With C = W_V W_O of the earlier head and R the circuit by which the later one reads (W_K W_Q^T for K-composition,
    W_Q W_K^T for Q-composition, W_V W_O for V-composition), the score is |C R| / (|C| |R|), | | being the Frobenius
    norm: 0 if the later head reads nothing of what the earlier one writes. (Elhage et al. 2021, "A Mathematical
    Framework for Transformer Circuits".) Effective weights are used: LayerNorm's gain and centring in them, its scale
    and all biases left out. Position does not enter: no added positions, no rotation, no smeared keys.

    Args:
        model: any HookedTransformer.
        kind: "k", "q" or "v": what the later head makes of what it reads.
        n_draws: pairs of random heads that the baseline is taken from.
        seed: of those pairs.

    Returns:
        [layer, head, earlier_layer, earlier_head], 0 to 1, without unit; NaN where the earlier layer is not an earlier
        one, and for heads whose circuit is zero. Two coordinates without dimension, `baseline_mean` and
        `baseline_std`, say what heads of the same widths with independent normal weights score.

    Raises:
        CapabilityError: if norms stand between the heads and the residual stream, or the model does not predict
            each token from those before it.
        InputError: if the kind is unknown, weights hold NaN or infinity, or their products overflow.

    Examples:
        >>> scores = composition_scores(model)
        >>> scores.dims
        ('layer', 'head', 'earlier_layer', 'earlier_head')
        >>> above_chance = (scores - scores.baseline_mean) / scores.baseline_std
    """
    one_of("kind", kind, list(READS))
    at_least("n_draws", n_draws, 2)
    require_causal(model)
    require_no_post_norms(model, "measuring with effective weights")
    with fastest_float32():
        scores = _all_pairs(model, kind)
    centred = str(model.cfg.normalization_type).startswith("LN")  # what reads then has one direction less
    mean, std = _baseline(model.cfg.d_model - int(centred), model.cfg.d_head, n_draws, seed)
    attributes = provenance(
        model,
        definition=f"|C R| / (|C| |R|), Frobenius norms; C = W_V W_O of the earlier head, R = {_CIRCUITS[kind]} of the "
        "later one; effective weights",
        kind=kind,
        position="left out: neither added positions nor rotation nor smeared keys enter",
        baseline="mean and standard deviation over pairs of heads with independent normal weights of the same shapes",
        n_draws=n_draws,
        seed=seed,
    )
    layers, heads = np.arange(model.cfg.n_layers), np.arange(model.cfg.n_heads)
    labels = {"layer": layers, "head": heads, "earlier_layer": layers, "earlier_head": heads}
    labelled = xr.DataArray(to_numpy(scores), labels, tuple(labels), f"{kind}_composition", json_safe(attributes))
    return labelled.assign_coords(baseline_mean=mean, baseline_std=std)


def _all_pairs(model: ModelLike, kind: str) -> Float[Tensor, "layer head earlier_layer earlier_head"]:
    """Scores of all pairs of heads, one pair of layers after the other."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    written: list[Tensor] = []
    scores: list[Tensor] = []
    for layer in range(n_layers):
        reading = _reading(model, kind, layer)
        products = [_norms_of_products(earlier.to(reading.device), reading).cpu() for earlier in written]
        undefined = torch.full((n_layers - layer, n_heads, n_heads), torch.nan, dtype=reading.dtype, device="cpu")
        scores.append(torch.cat([*(part[None] for part in products), undefined]))
        written.append(_writing(model, layer))
    return torch.stack(scores).permute(0, 2, 1, 3)


def _writing(model: ModelLike, layer: int) -> Float[Tensor, "head_index rank d_model"]:
    """W_V W_O of each head at unit norm, as something with the same products from the right, but fewer rows."""
    W_V, W_O = layer_matrix(model, "W_V", layer), layer_matrix(model, "W_O", layer)
    return _unit(model, triangular(W_V) @ W_O, layer, "W_V", "W_O")


def _reading(model: ModelLike, kind: str, layer: int) -> Float[Tensor, "head_index d_model rank"]:
    """The circuit by which each head reads, at unit norm, with fewer columns but the same products from the left."""
    near, far = READS[kind]
    other = layer_matrix(model, far, layer)
    circuits = layer_matrix(model, near, layer) @ triangular(other.mT if far == "W_O" else other).mT
    return _unit(model, circuits, layer, near, far)


def triangular(matrices: Float[Tensor, "head_index d_model d_head"]) -> Float[Tensor, "head_index rank d_head"]:
    """The triangular factor of each matrix: all of it but the rotation, which no norm of its products sees."""
    return torch.linalg.qr(matrices, mode="r").R


def _unit(
    model: ModelLike, circuits: Float[Tensor, "head_index rows columns"], layer: int, *made_of: MatrixName
) -> Float[Tensor, "head_index rows columns"]:
    """Circuits of Frobenius norm 1; NaN for those that are zero but for rounding."""
    norms = torch.linalg.matrix_norm(circuits)
    if not norms.isfinite().all():
        finite_weights(model)
        precision = str(circuits.dtype).removeprefix("torch.")
        raise InputError(f"circuits of heads overflow {precision}: the weights are too large; load them in float64")
    shares = norms
    for name in made_of:
        shares = shares / torch.linalg.matrix_norm(plain_matrix(model, name, layer))
    is_more_than_rounding = shares > _ROUNDING * torch.finfo(circuits.dtype).eps  # false for 0 / 0
    return circuits / norms.where(is_more_than_rounding, torch.nan)[:, None, None]


def _norms_of_products(
    written: Float[Tensor, "earlier_head rank d_model"], reading: Float[Tensor, "head_index d_model columns"]
) -> Float[Tensor, "head_index earlier_head"]:
    """Frobenius norms of the products of all earlier heads of one layer with all heads of a later one."""
    side_by_side = reading.transpose(0, 1).flatten(1)
    products = (written.flatten(0, 1) @ side_by_side).unflatten(1, (len(reading), -1)).unflatten(0, (len(written), -1))
    return torch.linalg.vector_norm(products, dim=(1, 3)).T


def _baseline(d_model: int, d_head: int, draws: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation of the score over pairs of heads with independent normal weights."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.empty(draws, dtype=torch.float64, device="cpu")
    for draw in range(draws):
        W_V, W_O, near, far = torch.randn(4, d_model, d_head, generator=generator, dtype=torch.float64, device="cpu")
        written, reading = triangular(W_V[None]) @ W_O.T, near @ triangular(far[None]).mT
        size = torch.linalg.matrix_norm(written) * torch.linalg.matrix_norm(reading)
        scores[draw] = (torch.linalg.matrix_norm(written @ reading) / size).item()
    return float(scores.mean()), float(scores.std())
