"""A model of the same architecture whose weights know nothing: what its scores are, chance is."""

import copy
from collections.abc import Callable, Generator

import torch

from ih_lens.errors import CapabilityError
from ih_lens.models.construction import build_model
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.smeared_keys import has_smeared_keys
from ih_lens.types import ModelLike
from ih_lens.validate import one_of


def models_with_random_weights(model: ModelLike, kind: str, seeds: range) -> Generator[HookedTransformer]:
    """The same architecture with other weights for each seed; one copy of the model, changed from seed to seed.

    Args:
        model: is left as it is; its tokenizer and its hooks are the copy's as well.
        kind: "random_weights" draws all parameters as this architecture is initialised; "same_norm_weights" draws
            every matrix (of heads: each head's own) from a normal distribution of the mean square that it has in the
            model, and keeps biases and gains.
        seeds: one model each; drawn on the CPU, so that they are the same on every device.

    Raises:
        CapabilityError: if the model is no `HookedTransformer`.
    """
    change = RANDOM_WEIGHTS[one_of("kind", kind, list(RANDOM_WEIGHTS))]
    if not isinstance(model, HookedTransformer):
        raise CapabilityError(
            f"random weights need a HookedTransformer, whose parameters have known names; got {type(model).__name__}. "
            "Load the model with load_model, or use kind='shuffled_tokens'"
        )
    changed = copy.deepcopy(model)
    for seed in seeds:
        change(model, changed, seed)
        yield changed


@torch.no_grad()
def initialise_again(model: HookedTransformer, changed: HookedTransformer, seed: int) -> None:
    """Parameters as `build_model` draws them: matrices by the configuration, gains 1, biases and smearing 0."""
    cfg = copy.deepcopy(model.cfg)
    cfg.init_weights, cfg.tokenizer_name, cfg.device = True, None, "cpu"
    new = dict(build_model(cfg, smeared_keys=has_smeared_keys(model), seed=seed).named_parameters())
    for name, parameter in changed.named_parameters():
        parameter.copy_(new[name])


@torch.no_grad()
def keep_norms(model: HookedTransformer, changed: HookedTransformer, seed: int) -> None:
    """Matrices with normally distributed entries of the mean square that each has in the model."""
    generator = torch.Generator().manual_seed(seed)
    sources = dict(model.named_parameters())
    for name, parameter in changed.named_parameters():
        if "W_" in name:
            scale = sources[name].float().square().mean(dim=(-2, -1), keepdim=True).sqrt()
            drawn = torch.randn(parameter.shape, generator=generator, device="cpu")
            parameter.copy_(drawn.to(scale) * scale)


RANDOM_WEIGHTS: dict[str, Callable[[HookedTransformer, HookedTransformer, int], None]] = {
    "random_weights": initialise_again,
    "same_norm_weights": keep_norms,
}
"""How the weights are drawn, by the kind of null."""
