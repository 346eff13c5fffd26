"""How much each head writes into the residual stream."""

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.measure.ablation.replacements import CleanOutputs
from ih_lens.measure.forward import STREAM_ON_CPU, check_measurable, measuring, rows_per_pass
from ih_lens.measure.numerics import widen
from ih_lens.models.effective import plain_matrix
from ih_lens.types import ModelLike


def head_output_norms(
    model: ModelLike, evals: EvalSet, *, batch_size: int | None = None
) -> Float[Tensor, "layer head"]:
    """Mean length of what each head writes into the residual stream, z W_O without the layer's output bias.

    Args:
        model: a HookedTransformer, or a bridge whose hooks take effect.
        evals: examples; the mean is over all of their positions.
        batch_size: examples per run of the model; changes memory and speed only.

    Returns:
        Lengths, at least 0, in the units of the residual stream.

    Raises:
        InputError: if the weights or tokens cannot be used.

    Examples:
        >>> head_output_norms(model, evals).shape == (model.cfg.n_layers, model.cfg.n_heads)
        True
    """
    check_measurable(model, evals)
    layers, clean = range(model.cfg.n_layers), CleanOutputs(model, None)
    n_rows = rows_per_pass(model, evals.n_pos, batch_size, tokens_on_cpu=STREAM_ON_CPU // model.cfg.d_model)
    total = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64, device="cpu")
    with measuring(model):
        written = [plain_matrix(model, "W_O", layer) for layer in layers]
        products = [matrix @ matrix.mT for matrix in written]  # |z W_O|^2 = z (W_O W_O^T) z
        for start in range(0, evals.n_examples, n_rows):
            for layer, z in clean.of(evals.tokens[start : start + n_rows], layers).items():
                wide = widen(z)
                squares = torch.einsum("bphd,hde,bphe->hbp", wide, products[layer].to(wide), wide)
                total[layer] += squares.clamp_min(0).sqrt().double().sum(dim=(1, 2)).cpu()
    return (total / evals.tokens.numel()).float()
