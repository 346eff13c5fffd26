"""What a bridge's configuration leaves out, read from the model that it wraps.

A `HookedTransformer` says all of this in its own configuration.
"""

from typing import Any, cast

from ih_lens.errors import CapabilityError
from ih_lens.types import ModelLike


def clips_values(model: ModelLike) -> bool:
    """Whether queries, keys and values are cut off at a largest size, as in OLMo."""
    return any(getattr(cfg, "clip_qkv", None) is not None for cfg in (model.cfg, _original(model)))


def normalises_outputs(model: ModelLike) -> bool:
    """Whether a norm stands between what attention writes and the residual stream, as in Gemma 2."""
    told = getattr(model.cfg, "use_normalization_before_and_after", False)
    blocks = getattr(model, "blocks", None)
    return told or (bool(blocks) and hasattr(blocks[0], "ln1_post"))


def attention_window(model: ModelLike, layer: int) -> int | None:
    """How many positions a local layer's queries see, themselves included; None where they see all earlier ones."""
    cfg, original = model.cfg, _original(model)
    if getattr(cfg, "use_local_attn", False):
        is_local = cfg.attn_types is not None and cfg.attn_types[layer] == "local"
        return int(cfg.window_size) if is_local else None
    kinds = getattr(original, "layer_types", None) or getattr(original, "attention_layers", None)
    if kinds is not None and kinds[layer] not in ("sliding_attention", "local"):
        return None
    window = getattr(original, "sliding_window", None) or (getattr(original, "window_size", None) if kinds else None)
    return None if window is None else int(window)


def embedding_scale(model: ModelLike) -> float:
    """What the wrapped model multiplies its embedding with, as Gemma does; a `HookedTransformer` has it in `W_E`."""
    return float(getattr(_wrapped(cast(Any, model).embed), "embed_scale", 1.0))


def embedding_norm(model: ModelLike) -> Any:
    """A norm right behind the embedding, as in BLOOM; None without one."""
    if getattr(model.cfg, "post_embedding_ln", False):
        return cast(Any, model).embed.ln
    return getattr(model, "embed_ln", None)


def attention_scale(model: ModelLike, layer: int) -> float:
    """What one layer divides its attention scores by.

    Raises:
        CapabilityError: for a bridge around attention that does not tell.
    """
    attention = cast(Any, model).blocks[layer].attn
    wrapped = _wrapped(attention)
    if wrapped is None:
        return float(attention.attn_scale)
    if isinstance(factor := getattr(wrapped, "scaling", None), float | int):  # as models of `transformers` have it
        return 1 / float(factor)
    if isinstance(divisor := getattr(wrapped, "scale", None), float | int):  # as native models of TransformerLens
        return float(divisor)
    raise CapabilityError(
        f"layer {layer}: this bridge does not tell what its {type(wrapped).__name__} divides attention scores by; use "
        "measures from attention patterns or ablations instead"
    )


def _wrapped(part: Any) -> Any:
    """The module that a part of a bridge stands for; None for a part of a `HookedTransformer`."""
    return getattr(part, "original_component", None)


def _original(model: ModelLike) -> Any:
    """The Hugging Face configuration of the language model in a bridge; None where there is none."""
    config: Any = getattr(getattr(model, "original_model", None), "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
