"""Measures and clamps of the exemplar-label task: what a model predicts, where its query looks, and its subcircuits."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from ih_lens.clamping._base import Clamp
from ih_lens.clamping.clamps.head_outputs import ZeroHead
from ih_lens.clamping.clamps.ideal_copying import IdealCopyLogits
from ih_lens.clamping.clamps.label_match import LabelMatch
from ih_lens.clamping.clamps.previous_token import PreviousToken
from ih_lens.clamping.clamps.shifted_layer import ShiftedLayer
from ih_lens.data.exemplar_labels import QUERY, ExemplarLabels
from ih_lens.errors import InputError
from ih_lens.models.config import attention_only
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import head_index


def exemplar_model(task: ExemplarLabels, **changes: Any) -> HookedTransformerConfig:
    """A model for the task as in Singh et al. 2024: two attention-only layers of 8 heads, width 64, rotary positions.

    Weights begin with variance 1 / d_model (LeCun's initialisation).

    Examples:
        >>> exemplar_model(ExemplarLabels(), n_heads=1).d_vocab_out
        5
    """
    settings: dict[str, Any] = {"n_layers": 2, "d_model": 64, "n_heads": 8, "positions": "rotary"}
    sizes: dict[str, Any] = {"d_vocab": task.d_vocab, "d_vocab_out": task.d_vocab_predicted, "n_ctx": task.n_pos}
    settings = {**settings, **sizes, **changes}
    return attention_only(**{"initializer_range": settings["d_model"] ** -0.5, **settings})


@torch.no_grad()
def exemplar_metrics(model: HookedTransformer, tokens: Int[Tensor, "example pos"]) -> dict[str, float]:
    """How a model does on sequences of `ExemplarLabels`.

    Args:
        model: the model.
        tokens: sequences, such as `task.measuring("new_label_pairs", 1000)`.

    Returns:
        `loss` in nats, `accuracy`, `in_context_accuracy` (the right one of the two labels of the context is the more
        probable) and `use_context_probability` (probability of both together); means over the examples.

    Examples:
        >>> exemplar_metrics(model, task.measuring("train", 1000))["accuracy"]
        0.99
    """
    _require_sequences(tokens)
    log_probabilities = model(tokens)[:, QUERY].log_softmax(dim=-1).cpu()
    answer, labels = tokens[:, QUERY + 1, None].cpu(), tokens[:, 1:QUERY:2].cpu()
    right = log_probabilities.gather(-1, answer)[:, 0]
    of_context = log_probabilities.gather(-1, labels)
    return {
        "loss": float(-right.mean()),
        "accuracy": float((log_probabilities.argmax(-1, keepdim=True) == answer).double().mean()),
        "in_context_accuracy": float((right == of_context.amax(dim=-1)).double().mean()),
        "use_context_probability": float(of_context.exp().sum(dim=-1).mean()),
    }


@torch.no_grad()
def induction_strength(model: HookedTransformer, tokens: Int[Tensor, "example pos"]) -> Float[Tensor, "layer head"]:
    """Attention of the query to the label of its class less that to the other label, a mean over examples in [-1, 1].

    (Singh et al. 2024.)

    Examples:
        >>> induction_strength(model, task.measuring("train", 1000))[1].max()
    """
    _require_sequences(tokens)
    labels = tokens[:, 1:QUERY:2]
    sign = torch.where(labels == tokens[:, QUERY + 1, None], 1.0, -1.0).double().cpu()
    found = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64, device="cpu")

    def measure(pattern: Tensor, hook: HookPoint) -> None:
        attention = pattern[:, :, QUERY, 1:QUERY:2].double().cpu()
        found[hook.layer()] = (attention * sign[:, None]).sum(dim=-1).mean(dim=0)

    hooks: list[Any] = [(f"blocks.{layer}.attn.hook_pattern", measure) for layer in range(model.cfg.n_layers)]
    model.run_with_hooks(tokens, fwd_hooks=hooks, return_type=None)
    return found


def exemplar_subcircuits(
    task: ExemplarLabels, cfg: HookedTransformerConfig, *, head: HeadSpelling = "L1H0", previous: HeadSpelling = "L0H0"
) -> dict[str, list[Clamp]]:
    """Conditions that give a model parts of the circuit, while it learns the rest (Singh et al. 2024, figure 5).

    Args:
        task: the task.
        cfg: of the model.
        head: the only head of its layer that is not ablated: the one that matches and copies.
        previous: the head of a layer before it that is clamped to the previous token.

    Returns:
        Clamps by condition: "free", "A: previous token" (its attention), "layer 1" (everything before the matching
        head), "B: match", "C: copy", and "A, C: layer 1 and copy", which leaves only B to be learned.

    Examples:
        >>> conditions = exemplar_subcircuits(task, cfg)
        >>> train_conditions(cfg, task, config, conditions, out="runs")
    """
    layer, index = head_index(head, cfg.n_layers, cfg.n_heads)
    others = [HeadIndex(layer, other) for other in range(cfg.n_heads) if other != index]
    alone: list[Clamp] = [ZeroHead(others)] if others else []
    shifted = ShiftedLayer(layer)
    copy = IdealCopyLogits(head, keys=(1, 3))
    return {
        "free": alone,
        "A: previous token": [*alone, PreviousToken(previous)],
        "layer 1": [*alone, shifted],
        "B: match": [*alone, LabelMatch(head, rows=(QUERY,), classes=task.classes)],
        "C: copy": [copy],
        "A, C: layer 1 and copy": [shifted, copy],
    }


def _require_sequences(tokens: Int[Tensor, "example pos"]) -> None:
    if tokens.shape[1] != QUERY + 2:
        raise InputError(
            f"tokens: expected sequences of ExemplarLabels, {QUERY + 2} tokens long, got {tuple(tokens.shape)}; "
            "make them with task.measuring(split, n)"
        )
