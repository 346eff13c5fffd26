"""The reference models and examples: from numbers that are the same on every machine, without training or download."""

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.streams import Stream, as_uniform, random_words
from ih_lens.models.config import attention_only, with_mlps
from ih_lens.models.construction import build_model
from ih_lens.models.hooked_transformer import HookedTransformer, HookedTransformerConfig

_SIZES: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_vocab": 120, "n_ctx": 112}
_LARGEST_WEIGHT = 0.5
"""So large that attention is far from uniform: near it, wrong attention would hardly show."""
_LARGEST_CHANGE_OF_GAIN = 0.25
_N_EXAMPLES, _N_POS = 6, 48


def _attention_only_2l(**changes: Any) -> HookedTransformerConfig:
    return attention_only(2, **_SIZES, **changes)


def _with_mlps_2l(**changes: Any) -> HookedTransformerConfig:
    return with_mlps(2, **_SIZES, positions="rotary", **changes)


def _smeared_keys_1l(**changes: Any) -> HookedTransformerConfig:
    return attention_only(1, **_SIZES, **changes)


REFERENCE_MODELS: dict[str, tuple[Callable[..., HookedTransformerConfig], bool]] = {
    "attention_only_2L": (_attention_only_2l, False),
    "with_mlps_2L": (_with_mlps_2l, False),
    "smeared_keys_1L": (_smeared_keys_1l, True),
}
"""The configuration of each, and whether its keys are smeared."""


def reference_model(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> HookedTransformer:
    """One of `REFERENCE_MODELS`; its weights follow from the names of its parameters alone."""
    make_cfg, smeared_keys = REFERENCE_MODELS[name]
    model = build_model(make_cfg(device=device, dtype=dtype), smeared_keys=smeared_keys)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            drawn = _signed(f"{name} {parameter_name}", parameter.shape)
            if parameter_name.endswith(".w"):
                parameter.copy_(1 + _LARGEST_CHANGE_OF_GAIN * drawn)
            else:
                parameter.copy_(_LARGEST_WEIGHT * drawn)
    return model


def reference_examples() -> EvalSet:
    """Random tokens, of which the second half repeats the first."""
    words = random_words(0, Stream.REFERENCE, 0, _N_EXAMPLES * _N_POS // 2)
    half: Int[Tensor, "example pos"] = torch.from_numpy(
        (as_uniform(words) * _SIZES["d_vocab"]).astype(np.int64).reshape(_N_EXAMPLES, -1)
    )
    return EvalSet.from_tokens(half.repeat(1, 2), seed=0)


def _signed(name: str, shape: torch.Size) -> Float[Tensor, "..."]:
    """Numbers from -1 to 1 in float64, drawn for a name."""
    words = random_words(zlib.crc32(name.encode()), Stream.REFERENCE, 0, math.prod(shape))
    return torch.from_numpy(2 * as_uniform(words) - 1).reshape(shape)
