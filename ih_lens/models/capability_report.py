"""A description of what can be measured on a model, asked of the model itself."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.errors import CapabilityError
from ih_lens.models.capabilities import (
    differing_vocabularies,
    require_causal,
    require_direct_path,
    require_frozen_patterns,
    require_no_post_norms,
)
from ih_lens.models.origin import origin_of
from ih_lens.models.wrapped_model import attention_window
from ih_lens.types import ModelLike

_PROBE_LENGTH = 6


@dataclass(frozen=True)
class Capabilities:
    """What can be measured on a model, and why the rest cannot.

    Attributes:
        model: its repository, folder or name.
        architecture: its Hugging Face architecture, "" where it has none.
        n_layers: layers.
        n_heads: heads of each layer.
        n_key_value_heads: heads that have keys and values of their own; fewer than `n_heads` where queries share them.
        n_ctx: the longest context that this object takes.
        positions: as TransformerLens names them: "standard", "rotary", "shortformer", "alibi".
        normalization: as TransformerLens names it; "none" without.
        windows: of each layer, how many positions its queries see, themselves included; None for all earlier ones.
            Heads get NaN for prefix matching where the repeat distance is longer.
        d_vocab: input tokens.
        d_vocab_out: output tokens.
        tokenizer: where it came from, "unknown" where another library attached it; None without one.
        start_token: id that the tokenizer starts texts with; None where it has no start token of its own.
        complete_attention: every layer shows its pattern, and its rows sum to one: head scores mean what they say.
        frozen_patterns: patterns can be kept fixed: `ablate_heads(kind="pattern_preserving")`, `clamp`.
        direct_path: logits are sums over heads: `logit_attribution`.
        weight_measures: eigenvalues and the QK trace can be taken from the weights.
        same_vocabulary: input and output tokens are the same: copying and OV eigenvalues are defined.
        largest_difference: of the logits from the original's, measured on loading; None where nothing was compared.
        reasons: for each of these five that is False, why.
    """

    model: str
    architecture: str
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    n_ctx: int
    positions: str
    normalization: str
    windows: tuple[int | None, ...]
    d_vocab: int
    d_vocab_out: int
    tokenizer: str | None
    start_token: int | None
    complete_attention: bool
    frozen_patterns: bool
    direct_path: bool
    weight_measures: bool
    same_vocabulary: bool
    largest_difference: float | None
    reasons: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values.

        Examples:
            >>> capabilities(model).to_dict()["n_ctx"]
            1024
        """
        return asdict(self) | {"windows": list(self.windows)}

    def __repr__(self) -> str:
        return "\n".join(_lines(self))


_ABILITIES = ("complete_attention", "frozen_patterns", "direct_path", "weight_measures", "same_vocabulary")


def capabilities(model: ModelLike) -> Capabilities:
    """Describe what can be measured on a model; two short forward passes, and nothing of the model changes.

    Args:
        model: a `HookedTransformer` or a bridge.

    Raises:
        CapabilityError: for encoders and encoder-decoders, on which nothing here is defined.

    Examples:
        >>> capabilities(load_model("gpt2")).frozen_patterns
        True
    """
    require_causal(model)
    cfg, origin = model.cfg, origin_of(model)
    reasons = {name: reason for name, reason in _reasons(model).items() if reason is not None}
    tokenizer = getattr(model, "tokenizer", None)
    told = "unknown" if origin is None or origin.tokenizer is None else origin.tokenizer
    start = getattr(tokenizer, "bos_token_id", None) if origin is None else origin.start_token
    return Capabilities(
        model=cfg.model_name if origin is None else origin.name,
        architecture=str(getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None) or ""),
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_key_value_heads=getattr(cfg, "n_key_value_heads", None) or cfg.n_heads,
        n_ctx=cfg.n_ctx,
        positions=cfg.positional_embedding_type,
        normalization=cfg.normalization_type or "none",
        windows=tuple(attention_window(model, layer) for layer in range(cfg.n_layers)),
        d_vocab=cfg.d_vocab,
        d_vocab_out=cfg.d_vocab_out,
        tokenizer=None if tokenizer is None else told,
        start_token=start,
        **{name: name not in reasons for name in _ABILITIES},
        largest_difference=None if origin is None else origin.largest_difference,
        reasons=reasons,
    )


@torch.no_grad()
def require_complete_attention(model: ModelLike) -> None:
    """Refuse models that do not show where their heads attend.

    Raises:
        CapabilityError: if a layer shows no pattern [batch, head, query, key], or one whose rows do not sum to one
            (attention computed elsewhere, or partly given to a sink outside the sequence).

    Examples:
        >>> require_complete_attention(load_model("gpt2"))
    """
    sums = _row_sums(model)
    for layer in range(model.cfg.n_layers):
        if layer not in sums:
            raise CapabilityError(
                f"layer {layer} shows no complete attention pattern [batch, head, query, key], so its heads cannot be "
                "scored; load the model as a HookedTransformer"
            )
        off = (sums[layer] - 1).abs().max().item()
        if not off <= 0.02:  # half precision rounds each entry
            raise CapabilityError(
                f"layer {layer}: attention given to positions does not sum to one (off by {off:.2g}): part of it goes "
                "to a sink outside the sequence, or what is shown are no patterns; scores there are shares of what is "
                "left"
            )


def _row_sums(model: ModelLike) -> dict[int, Tensor]:
    """Sums of each layer's pattern over keys, for a short random input."""
    cfg = model.cfg
    n_pos = min(_PROBE_LENGTH, cfg.n_ctx)
    tokens = torch.randint(0, cfg.d_vocab, (1, n_pos), generator=torch.Generator().manual_seed(0), device="cpu")
    sums: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(pattern: Float[Tensor, "..."], hook: HookPoint) -> None:  # noqa: ARG001
            if tuple(pattern.shape) == (1, cfg.n_heads, n_pos, n_pos):
                sums[layer] = pattern.float().sum(-1)

        return hook

    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(cfg.n_layers)]
    present = [(name, keep(layer)) for layer, name in enumerate(names) if name in getattr(model, "hook_dict", names)]
    model.run_with_hooks(tokens.to(cfg.device), fwd_hooks=present)
    return sums


def _reasons(model: ModelLike) -> dict[str, str | None]:
    """Why each ability is missing, None where it is there."""
    return {
        "complete_attention": _refusal(lambda: require_complete_attention(model)),
        "frozen_patterns": _refusal(lambda: require_frozen_patterns(model)),
        "direct_path": _refusal(lambda: require_direct_path(model, "logit attribution")),
        "weight_measures": _refusal(lambda: require_no_post_norms(model, "measuring with effective weights")),
        "same_vocabulary": differing_vocabularies(model, "copying"),
    }


def _refusal(ask: Callable[[], None]) -> str | None:
    try:
        ask()
    except CapabilityError as error:
        return str(error)
    return None


def _lines(told: Capabilities) -> list[str]:
    """One fact per line."""
    shared = f", keys and values shared by {told.n_heads // told.n_key_value_heads} heads"
    grouped = "" if told.n_key_value_heads == told.n_heads else shared
    local = [f"L{layer}: {window}" for layer, window in enumerate(told.windows) if window is not None]
    start = "no start token of its own" if told.start_token is None else f"start token {told.start_token}"
    facts = {
        "model": told.model + (f" ({told.architecture})" if told.architecture else ""),
        "heads": f"{told.n_layers} layers of {told.n_heads}{grouped}",
        "context": f"{told.n_ctx} positions ({told.positions}), normalization {told.normalization}",
        "windows": ", ".join(local) or "none; all layers see all earlier positions",
        "tokenizer": "none" if told.tokenizer is None else f"{told.tokenizer}, {start}",
    }
    if told.largest_difference is not None:
        facts["logits"] = f"differ from the original's by at most {told.largest_difference:.2g}"
    facts |= {name.replace("_", " "): "yes" if getattr(told, name) else "no" for name in _ABILITIES}
    facts |= {name.replace("_", " "): f"no: {reason}" for name, reason in told.reasons.items()}
    width = max(map(len, facts))
    return [f"{name:<{width}}  {fact}" for name, fact in facts.items()]
