"""Whether a converted model computes what the original does: asked on every conversion, before anything is measured."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.errors import CapabilityError
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.validate import finite_weights

_LENGTH = 32
_LONGEST_WINDOW = 512
_ALLOWED = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Root mean square difference as a share of the logits' spread. Two correct implementations stay below it: small models
give 3e-7 in float32, another flavour of the activation function 1e-4, the float32 inside some float64 models 1e-6, and
rounding in half precision adds up over layers."""
_ROUNDINGS = 32
"""In float32, how often the effect of rounding the residual stream once per layer may be seen, up to 0.01: large models
with huge single activations round more coarsely than small ones."""


def probe_tokens(d_vocab: int, n_ctx: int, window: int | None) -> Int[Tensor, "1 pos"]:
    """Fixed pseudo-random ids, more than a local window holds unless that is very wide."""
    longer = window + 8 if window is not None and window <= _LONGEST_WINDOW else 0
    n_pos = min(max(_LENGTH, longer), n_ctx)
    return torch.randint(0, d_vocab, (1, n_pos), generator=torch.Generator().manual_seed(0), device="cpu")


@torch.no_grad()
def largest_difference(
    model: HookedTransformer,
    tokens: Int[Tensor, "1 pos"],
    original: Float[Tensor, "1 pos d_vocab_out"],
    *,
    name: str,
    up_to_a_constant: bool = False,
) -> float:
    """The largest difference between the logits of a converted model and the original's.

    Args:
        model: the converted model.
        tokens: what the original read.
        original: its logits, in the original's dtype.
        name: of the model, for the message.
        up_to_a_constant: leave out what is added to all logits of a position alike, as centred unembeddings change it.

    Returns:
        The largest absolute difference.

    Raises:
        NumericsError: if weights hold NaN or infinity.
        CapabilityError: if the difference is no rounding, which means that the conversion is wrong.
    """
    converted = model(tokens.to(model.cfg.device)).cpu().double()
    if converted.shape != original.shape:
        raise CapabilityError(
            f"TransformerLens converts {name} wrongly: the logits have shape {tuple(converted.shape)}, the original's "
            f"{tuple(original.shape)}. Measure a TransformerBridge of it instead"
        )
    expected = original.cpu().double()
    spread = expected - expected.mean(-1, keepdim=True)
    difference = converted - expected
    if up_to_a_constant:
        difference -= difference.mean(-1, keepdim=True)
    unit = spread.square().mean().clamp_min(1e-30).sqrt().item()
    share = difference.square().mean().sqrt().item() / unit
    largest = difference.abs().max().item()
    allowed = max(_ALLOWED.get(dtype, 1e-4) for dtype in (original.dtype, model.cfg.dtype))
    if share > allowed and model.cfg.dtype == torch.float32:
        allowed = max(allowed, min(_ROUNDINGS * _rounding(model, tokens) / unit, 0.01))
    if math.isnan(share):
        finite_weights(model)
    if not share <= allowed:  # NaN is refused too
        raise CapabilityError(
            f"TransformerLens converts {name} wrongly: its logits differ from the original's by up to {largest:.3g} "
            f"({share:.2g} of their spread, where rounding explains {allowed:.2g}), so measurements would be of "
            "another model. Measure a TransformerBridge of it; in half precision, try dtype=torch.float32 first"
        )
    return largest


def _rounding(model: HookedTransformer, tokens: Int[Tensor, "1 pos"]) -> float:
    """Root mean square change of the logits when the residual stream is rounded up or down after every layer."""
    generator = torch.Generator().manual_seed(0)
    step = torch.finfo(model.cfg.dtype).eps

    def rounded(resid: Float[Tensor, "1 pos d_model"], hook: HookPoint) -> Float[Tensor, "1 pos d_model"]:  # noqa: ARG001
        up = torch.randint(0, 2, resid.shape, generator=generator, device="cpu").to(resid)
        return resid * (1 + step * (2 * up - 1))

    names = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    tokens = tokens.to(model.cfg.device)
    plain, changed = model(tokens), model.run_with_hooks(tokens, fwd_hooks=[(name, rounded) for name in names])
    return (changed.double() - plain.double()).square().mean().sqrt().item()
