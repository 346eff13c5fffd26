"""What a model is able to do: measurements ask here first, and refuse with a reason."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.architectures import POST_NORM_ARCHITECTURES, classify_architecture

from ih_lens.errors import CapabilityError
from ih_lens.models.hooked_transformer import HookedEncoder, HookedEncoderDecoder
from ih_lens.models.wrapped_model import clips_values, normalises_outputs
from ih_lens.types import ModelLike

_PROBE_LENGTH = 6


def require_causal(model: ModelLike) -> None:
    """Refuse models that do not predict each token from the tokens before it.

    Raises:
        CapabilityError: for encoders, encoder-decoders and models that see later tokens.

    Examples:
        >>> require_causal(load_model("gpt2"))
    """
    kind = next((classify_architecture(name) for name in _architectures(model)), "causal_lm")
    encodes = isinstance(model, HookedEncoder | HookedEncoderDecoder) or kind not in ("causal_lm", "multimodal")
    if encodes or getattr(model.cfg, "attention_dir", "causal") != "causal":
        raise CapabilityError(
            f"{type(model).__name__} does not predict each token from the tokens before it, so induction and "
            "in-context learning are not defined for it; use a decoder-only language model"
        )


def require_no_post_norms(model: ModelLike, what: str) -> None:
    """Refuse models that normalise what a layer writes before it reaches the residual stream.

    Args:
        model: the model.
        what: what needs it, as the message names it.

    Raises:
        CapabilityError: for models with norms after attention, such as Gemma 2 and OLMo 2.
    """
    if normalises_outputs(model) or not POST_NORM_ARCHITECTURES.isdisjoint(_architectures(model)):
        raise CapabilityError(
            f"{what} follows what heads write straight into the residual stream, but this model normalises it first "
            "(norms after attention); use measures from attention patterns or ablations instead"
        )


def require_direct_path(model: ModelLike, what: str) -> None:
    """Refuse models in which a head's effect on the logits is not one product of matrices.

    Args:
        model: the model.
        what: what needs the direct path, as the message names it.

    Raises:
        CapabilityError: for models with norms after attention, clipped values or soft-capped logits.

    Examples:
        >>> require_direct_path(load_model("gpt2"), "logit attribution")
    """
    require_no_post_norms(model, what)
    obstacles = {
        "caps its logits smoothly": (getattr(model.cfg, "output_logits_soft_cap", None) or 0.0) > 0,
        "clips its values": clips_values(model),
    }
    for obstacle, present in obstacles.items():
        if present:
            raise CapabilityError(
                f"{what} splits logits into a sum over heads, but this model {obstacle}, so that they are not such "
                "a sum; use ablations instead"
            )


def differing_vocabularies(model: ModelLike, what: str) -> str | None:
    """Why something that compares input with output tokens is not defined; None where both have one vocabulary.

    Examples:
        >>> differing_vocabularies(load_model("gpt2"), "copying")
    """
    n_in, n_out = model.cfg.d_vocab, model.cfg.d_vocab_out
    if n_in == n_out:
        return None
    return (
        f"{what} takes input and output tokens for the same, but this model has {n_in} input and {n_out} output "
        "tokens; use measures from attention patterns or ablations instead"
    )


@torch.no_grad()
def require_frozen_patterns(model: ModelLike) -> None:
    """Refuse models whose attention patterns cannot be edited.

    Some bridges show attention patterns but compute with their own. So this makes every head of a short random
    input attend to the first token only, and looks whether all positions then receive the same from it.

    Raises:
        CapabilityError: if a layer shows no complete pattern or does not follow the edit.

    Examples:
        >>> require_frozen_patterns(load_model("gpt2"))
    """
    require_causal(model)
    edited, written = _attend_to_first_token(model)
    for layer in range(model.cfg.n_layers):
        if layer not in edited or layer not in written:
            raise CapabilityError(
                f"layer {layer} shows no complete attention pattern [batch, head, query, key], so patterns cannot be "
                'kept fixed; use kind="full", or load the model as a HookedTransformer'
            )
        values = written[layer].double()
        spread = (values - values[:, :1]).abs().max()
        if spread > 16 * torch.finfo(written[layer].dtype).eps * values.abs().max():
            raise CapabilityError(
                f"layer {layer} ignores edits of its attention pattern (blocks.{layer}.attn.hook_pattern), so "
                'patterns cannot be kept fixed; use kind="full", or load the model as a HookedTransformer'
            )


def _attend_to_first_token(model: ModelLike) -> tuple[set[int], dict[int, Tensor]]:
    """Layers whose complete pattern was edited, and what each layer's attention then wrote."""
    cfg: Any = model.cfg
    n_pos = min(_PROBE_LENGTH, cfg.n_ctx)
    tokens = torch.randint(0, cfg.d_vocab, (1, n_pos), generator=torch.Generator().manual_seed(0), device="cpu")
    edited: set[int] = set()
    written: dict[int, Tensor] = {}

    def edit(layer: int) -> Callable[..., Tensor]:
        def hook(pattern: Float[Tensor, "..."], hook: HookPoint) -> Float[Tensor, "..."]:  # noqa: ARG001
            if tuple(pattern.shape) != (1, cfg.n_heads, n_pos, n_pos):
                return pattern
            edited.add(layer)
            first = torch.zeros_like(pattern)
            first[..., 0] = 1
            return first

        return hook

    def keep(layer: int) -> Callable[..., None]:
        def hook(value: Float[Tensor, "batch pos d_model"], hook: HookPoint) -> None:  # noqa: ARG001
            written[layer] = value

        return hook

    hooks = [(f"blocks.{layer}.attn.hook_pattern", edit(layer)) for layer in range(cfg.n_layers)]
    hooks += [(f"blocks.{layer}.hook_attn_out", keep(layer)) for layer in range(cfg.n_layers)]
    present = [(name, hook) for name, hook in hooks if name in getattr(model, "hook_dict", {name: None})]
    with discarded_edits_unannounced():
        model.run_with_hooks(tokens.to(cfg.device), fwd_hooks=present)
    return edited, written


@contextmanager
def discarded_edits_unannounced() -> Generator[None]:
    """While it is tried whether edits take effect: no warning of TransformerLens 4.x that they do not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A hook on .* returned a modified tensor")
        yield


def _architectures(model: ModelLike) -> set[str]:
    """Names of the Hugging Face architecture, where the model has one."""
    names = (getattr(model.cfg, field, None) for field in ("original_architecture", "architecture"))
    return {name for name in names if name}
