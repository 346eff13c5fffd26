"""Folding and centring weights as TransformerLens's `from_pretrained` does, for models that it leaves unchanged."""

from typing import Any

from transformer_lens.utilities.architectures import POST_NORM_ARCHITECTURES

from ih_lens.errors import CapabilityError
from ih_lens.models.hooked_transformer import HookedTransformer


def process_weights(model: HookedTransformer) -> None:
    """Fold LayerNorm and value biases and centre the weights, in place.

    TransformerLens computes this in float32, whatever the weights' dtype.

    Raises:
        CapabilityError: for models that would become other ones.
    """
    require_processable(model.cfg)
    model.process_weights_(center_unembed=(model.cfg.output_logits_soft_cap or 0.0) <= 0.0)


def require_processable(cfg: Any) -> None:
    """Refuse models that folding and centring would change.

    Raises:
        CapabilityError: with the reason.
    """
    if cfg.positional_embedding_type == "shortformer":
        raise CapabilityError(
            "models with shortformer positions can be neither folded nor centred: positions are added after LayerNorm, "
            "so the model would become another one. Leave out process=True; weight-based measures need no folding"
        )
    if cfg.original_architecture in POST_NORM_ARCHITECTURES:
        raise CapabilityError(
            "models with norms after attention can be neither folded nor centred, because the norms' weights do not "
            "stand before matrices. Leave out process=True; weight-based measures need no folding"
        )
