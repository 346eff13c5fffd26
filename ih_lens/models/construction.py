"""Building models: the one place where a `HookedTransformer` is constructed."""

import copy
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.models.smeared_keys import add_smeared_keys
from ih_lens.validate import one_of


@contextmanager
def quiet_construction() -> Generator[None]:
    """Hide TransformerLens's notices that HookedTransformer will be removed, and nothing else.

    This library asks for a version that has it, so its users can do nothing about them.
    """
    with warnings.catch_warnings():
        notice = r"HookedTransformer(\.from_pretrained)? is deprecated"
        warnings.filterwarnings("ignore", message=notice, category=DeprecationWarning)
        yield


def build_model(
    cfg: HookedTransformerConfig,
    *,
    smeared_keys: bool = False,
    seed: int = 0,
    shortformer_init: Literal["sinusoids", "random"] = "sinusoids",
) -> HookedTransformer:
    """Build a model with new weights.

    Weights are drawn on the CPU, so one seed gives the same weights on every device, and the weights of a model
    with smeared keys are those of the plain one beside `alpha`. No global random state is read or changed.

    Args:
        cfg: the configuration; it is copied. Its own `seed` is not used, because TransformerLens would seed
            PyTorch, NumPy and Python globally with it; the model's copy has none.
        smeared_keys: mix each key with the one before it, with one trainable parameter per head.
        seed: of the weights.
        shortformer_init: how shortformer positions start. "sinusoids": sines and cosines of unit scale as in
            Press et al. 2020; "random": like the other weights, as TransformerLens does. Small random positions
            drown in the normalised residual stream, so that heads that attend by position come several times later.

    Returns:
        The model on `cfg.device`, in training mode as PyTorch's modules start.

    Examples:
        >>> build_model(attention_only(n_layers=2), smeared_keys=True, seed=0).blocks[0].attn.alpha.shape
        torch.Size([8])
    """
    one_of("shortformer_init", shortformer_init, ("sinusoids", "random"))
    cfg = copy.deepcopy(cfg)
    cfg.seed = None
    with quiet_construction(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        model = HookedTransformer(cfg, move_to_device=False)
        if cfg.init_weights and cfg.positional_embedding_type == "shortformer" and shortformer_init == "sinusoids":
            model.pos_embed.W_pos.data.copy_(sinusoids(cfg.n_ctx, cfg.d_model))
        if smeared_keys:
            add_smeared_keys(model)
    model.move_model_modules_to_device()
    return model


def parameter_shapes(cfg: HookedTransformerConfig, *, smeared_keys: bool = False) -> dict[str, torch.Size]:
    """Name and shape of every parameter that `build_model` would make, without the memory for any.

    Examples:
        >>> parameter_shapes(attention_only(n_layers=1, d_model=64, n_heads=4))["blocks.0.attn.W_Q"]
        torch.Size([4, 64, 16])
    """
    cfg = copy.deepcopy(cfg)
    cfg.seed, cfg.init_weights = None, False
    with quiet_construction(), torch.device("meta"):
        model = HookedTransformer(cfg, move_to_device=False)
        if smeared_keys:
            add_smeared_keys(model)
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def sinusoids(n_pos: int, width: int) -> Float[Tensor, "pos d_model"]:
    """Sines and cosines of positions with a mean square of 1, wavelengths from 2π to 10000 * 2π (Vaswani et al. 2017).

    Examples:
        >>> sinusoids(512, 64).square().mean()
        tensor(1.0000)
    """
    rates = 10000.0 ** -(torch.arange(0, width, 2, device="cpu") / width)
    angles = torch.arange(n_pos, device="cpu")[:, None] * rates
    return 2**0.5 * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
