"""What transformer-lens 4.0 removed, and the one place that imports it: `HookedTransformer` and all that belongs to it.

Where transformer-lens 4.x is installed, none of it exists. Each name is then a class without instances, so that no
model is taken for a `HookedTransformer`, and using one tells what to install. What measures ask of a model beside it,
hook points and `TransformerBridge`, both versions have; other modules import only that from transformer_lens.
"""

import dataclasses
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from transformer_lens.model_bridge import TransformerBridge

from ih_lens.errors import CapabilityError

INSTALLED = version("transformer-lens")
HAS_HOOKED_TRANSFORMER = int(INSTALLED.split(".")[0]) < 4


def require_hooked_transformer(what: str, arguments: str) -> None:
    """Refuse to load something where there is no `HookedTransformer` to load it into.

    Args:
        what: is to be loaded, as the message names it.
        arguments: of `TransformerBridge.boot_transformers`, which makes a bridge of it.

    Raises:
        CapabilityError: with the lines that do so.
    """
    if not HAS_HOOKED_TRANSFORMER:
        raise CapabilityError(
            f"transformer-lens {INSTALLED} is installed, which has no HookedTransformer to load {what} into. Measure a "
            "bridge, made by\n    from transformer_lens.model_bridge import TransformerBridge\n    model = "
            f"TransformerBridge.boot_transformers({arguments})\nor install 'transformer-lens>=3.9,<4'"
        )


def _refuse(what: str) -> NoReturn:
    raise CapabilityError(
        f"transformer-lens {INSTALLED} is installed, which has no HookedTransformer; {what} belongs to it. Install "
        "'transformer-lens>=3.9,<4'; what measures a model also takes a TransformerBridge"
    )


class _Absent(type):
    """The type of names that the installed version lacks: nothing is an instance, and nothing can be asked of them."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 whatever it is called with
        _refuse(cls.__name__)

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("_"):  # what Python and type checkers look for in any class
            raise AttributeError(name)
        _refuse(f"{cls.__name__}.{name}")


if TYPE_CHECKING or HAS_HOOKED_TRANSFORMER:
    from transformer_lens import (
        HookedEncoder,
        HookedEncoderDecoder,
        HookedTransformer,
        HookedTransformerConfig,
        loading_from_pretrained,
    )
    from transformer_lens.components.abstract_attention import AbstractAttention
    from transformer_lens.components.attention import Attention
    from transformer_lens.components.grouped_query_attention import GroupedQueryAttention
    from transformer_lens.components.layer_norm import LayerNorm
    from transformer_lens.components.layer_norm_pre import LayerNormPre
    from transformer_lens.components.mlps.gated_mlp import GatedMLP
    from transformer_lens.components.mlps.mlp import MLP
    from transformer_lens.components.rms_norm import RMSNorm
    from transformer_lens.components.rms_norm_pre import RMSNormPre
    from transformer_lens.components.transformer_block import TransformerBlock
    from transformer_lens.loading_from_pretrained import (
        PYTHIA_CHECKPOINTS,
        PYTHIA_V0_CHECKPOINTS,
        STANFORD_CRFM_CHECKPOINTS,
        get_checkpoint_labels,
        get_official_model_name,
    )
    from transformer_lens.pretrained.weight_conversions.mingpt import convert_mingpt_weights
    from transformer_lens.pretrained.weight_conversions.neel_solu_old import convert_neel_solu_old_weights
else:
    from transformer_lens.supported_models import get_official_model_name
    from transformer_lens.tools.model_registry.checkpoints import (
        PYTHIA_CHECKPOINTS,
        PYTHIA_V0_CHECKPOINTS,
        STANFORD_CRFM_CHECKPOINTS,
        get_checkpoint_labels,
    )

    HookedEncoder = _Absent("HookedEncoder", (), {})
    HookedEncoderDecoder = _Absent("HookedEncoderDecoder", (), {})
    HookedTransformer = _Absent("HookedTransformer", (), {})
    HookedTransformerConfig = _Absent("HookedTransformerConfig", (), {})
    loading_from_pretrained = _Absent("loading_from_pretrained", (), {})
    AbstractAttention = _Absent("AbstractAttention", (), {})
    Attention = _Absent("Attention", (), {})
    GroupedQueryAttention = _Absent("GroupedQueryAttention", (), {})
    LayerNorm = _Absent("LayerNorm", (), {})
    LayerNormPre = _Absent("LayerNormPre", (), {})
    GatedMLP = _Absent("GatedMLP", (), {})
    MLP = _Absent("MLP", (), {})
    RMSNorm = _Absent("RMSNorm", (), {})
    RMSNormPre = _Absent("RMSNormPre", (), {})
    TransformerBlock = _Absent("TransformerBlock", (), {})
    convert_mingpt_weights = _Absent("convert_mingpt_weights", (), {})
    convert_neel_solu_old_weights = _Absent("convert_neel_solu_old_weights", (), {})


def hooked_configuration_fields() -> list[str]:
    """Names of all that a `HookedTransformerConfig` holds.

    Raises:
        CapabilityError: where there is no such configuration.
    """
    if not HAS_HOOKED_TRANSFORMER:
        _refuse("this configuration")
    return [field.name for field in dataclasses.fields(HookedTransformerConfig)]


LoadedModel: TypeAlias = HookedTransformer | TransformerBridge
"""A model in memory that clamps and hooks can be put on."""

__all__ = [
    "HAS_HOOKED_TRANSFORMER",
    "INSTALLED",
    "MLP",
    "PYTHIA_CHECKPOINTS",
    "PYTHIA_V0_CHECKPOINTS",
    "STANFORD_CRFM_CHECKPOINTS",
    "AbstractAttention",
    "Attention",
    "GatedMLP",
    "GroupedQueryAttention",
    "HookedEncoder",
    "HookedEncoderDecoder",
    "HookedTransformer",
    "HookedTransformerConfig",
    "LayerNorm",
    "LayerNormPre",
    "LoadedModel",
    "RMSNorm",
    "RMSNormPre",
    "TransformerBlock",
    "convert_mingpt_weights",
    "convert_neel_solu_old_weights",
    "get_checkpoint_labels",
    "get_official_model_name",
    "hooked_configuration_fields",
    "loading_from_pretrained",
    "require_hooked_transformer",
]
