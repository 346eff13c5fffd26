"""The paper's series of models as data: which models each has, at the paper's size and at smaller ones.

From "Model Details" and the head of the "Model Analysis Table". Nothing here allocates weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ih_lens.models.config import attention_only, with_mlps
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.validate import at_least, one_of

Scale: TypeAlias = Literal["paper", "gpu", "laptop", "tiny"]
SCALES: tuple[Scale, ...] = ("paper", "gpu", "laptop", "tiny")


@dataclass(frozen=True)
class ModelSpec:
    """One model of a series: what to build, not yet built.

    Attributes:
        name: short and fit for a folder, such as "attention_only_2L".
        cfg: its configuration.
        smeared_keys: whether its keys are smeared.
    """

    name: str
    cfg: HookedTransformerConfig
    smeared_keys: bool = False


@dataclass(frozen=True)
class PaperTraining:
    """How the paper trained a series, as far as it says; learning rates and weight decays it does not give.

    Attributes:
        n_steps: optimiser steps.
        tokens_per_step: tokens in one batch.
        snapshot_steps: the steps with a snapshot.
        warmup_tokens: tokens over which the learning rate rises; None where not given.
        weight_decay_lowered_at: the step at which weight decay is lowered; None where not given.
    """

    n_steps: int
    tokens_per_step: int
    snapshot_steps: tuple[int, ...]
    warmup_tokens: int | None
    weight_decay_lowered_at: int | None


SMALL_TRAINING = PaperTraining(
    n_steps=10_000,
    tokens_per_step=2**20,
    snapshot_steps=tuple(range(50, 10_001, 50)),
    warmup_tokens=1_500_000_000,
    weight_decay_lowered_at=4750,
)
FULL_SCALE_TRAINING = PaperTraining(
    n_steps=2**17,
    tokens_per_step=2**20,  # up to step 2**11 for all sizes; more tokens per step later for the 24 and 40 layers
    snapshot_steps=tuple(2**power for power in range(5, 18)),
    warmup_tokens=None,
    weight_decay_lowered_at=None,
)

_SMALL: dict[str, dict[str, Any]] = {
    "paper": {"d_model": 768, "n_heads": 12, "d_vocab": 2**16, "n_ctx": 8192},
    "gpu": {"d_model": 256, "n_heads": 8, "d_vocab": 4096, "n_ctx": 512},
    "laptop": {"d_model": 128, "n_heads": 8, "d_vocab": 1024, "n_ctx": 512},
    "tiny": {"d_model": 64, "n_heads": 4, "d_vocab": 32, "n_ctx": 48},
}
"""Sizes of the small models; "tiny" fits the task `RestartCycle`."""

_LAYERS = range(1, 7)


_FULL: dict[str, dict[int, tuple[int, int]]] = {
    "paper": {4: (8, 64), 6: (12, 64), 10: (20, 64), 16: (32, 64), 24: (48, 64), 40: (40, 128)},
    "gpu": {n: (2 * n, 32) for n in (2, 3, 4, 6, 8, 12)},
    "laptop": {n: (2 * n, 16) for n in (2, 3, 4, 5, 6, 8)},
    "tiny": {n: (2 * n, 8) for n in (2, 3, 4, 5, 6, 8)},
}
"""Layers -> heads and dimensions of a head; d_model grows with the layers, by 128 a layer in the paper."""


def small_attention_only(scale: Scale = "paper") -> list[ModelSpec]:
    """The small models without MLPs, one to six layers.

    Args:
        scale: "paper" (d_model 768, 12 heads, vocabulary 65536, context 8192), or the same series small enough for
            one "gpu", for a "laptop" (on text) or "tiny" (for the task `RestartCycle`).

    Returns:
        One spec per depth, shallowest first.

    Raises:
        InputError: for an unknown scale.

    Examples:
        >>> [spec.name for spec in small_attention_only("laptop")][:2]
        ['attention_only_1L', 'attention_only_2L']
    """
    sizes = _SMALL[one_of("scale", scale, SCALES)]
    return [ModelSpec(f"attention_only_{n}L", attention_only(n, **sizes)) for n in _LAYERS]


def small_with_mlps(scale: Scale = "paper") -> list[ModelSpec]:
    """The small models with MLPs, one to six layers; arguments and return as `small_attention_only`.

    Examples:
        >>> small_with_mlps("tiny")[5].cfg.n_layers
        6
    """
    sizes = _SMALL[one_of("scale", scale, SCALES)]
    return [ModelSpec(f"with_mlps_{n}L", with_mlps(n, **sizes)) for n in _LAYERS]


def smeared_key_models(scale: Scale = "paper") -> list[ModelSpec]:
    """One and two layers with smeared keys, each after its plain control.

    They are attention-only, as the argument that they test is about composition of attention layers; the paper
    says "otherwise proportioned and trained exactly the same as the small models" without naming which. Arguments
    as `small_attention_only`.

    Examples:
        >>> [spec.name for spec in smeared_key_models("tiny")]
        ['control_1L', 'smeared_keys_1L', 'control_2L', 'smeared_keys_2L']
    """
    sizes = _SMALL[one_of("scale", scale, SCALES)]
    names = {False: "control", True: "smeared_keys"}
    return [
        ModelSpec(f"{names[smeared]}_{n}L", attention_only(n, **sizes), smeared) for n in (1, 2) for smeared in names
    ]


def full_scale(scale: Scale = "paper", *, window_size: int | None = None) -> list[ModelSpec]:
    """Six models with MLPs that grow in depth and width together; every second layer attends locally.

    At the paper's scale these are its six sizes from 13M to 13B parameters without embeddings.

    Args:
        scale: as in `small_attention_only`.
        window_size: how many tokens back a local layer sees, itself included. The paper does not give it; by
            default it is 1/16 of the context and at least 8.

    Returns:
        One spec per size, smallest first.

    Raises:
        InputError: for an unknown scale.

    Examples:
        >>> [spec.cfg.d_model for spec in full_scale("paper")]
        [512, 768, 1280, 2048, 3072, 5120]
    """
    shapes = _FULL[one_of("scale", scale, SCALES)]
    context = {name: _SMALL[scale][name] for name in ("d_vocab", "n_ctx")}
    window = max(8, context["n_ctx"] // 16) if window_size is None else at_least("window_size", window_size, 1)
    return [
        ModelSpec(
            f"full_scale_{n_layers}L",
            with_mlps(
                n_layers,
                d_model=n_heads * d_head,
                n_heads=n_heads,
                use_local_attn=True,
                attn_types=[("global", "local")[layer % 2] for layer in range(n_layers)],
                window_size=window,
                **context,
            ),
        )
        for n_layers, (n_heads, d_head) in shapes.items()
    ]


@dataclass(frozen=True)
class Series:
    """One series of the Model Analysis Table.

    Attributes:
        description: what it is for, in a sentence.
        build: its models at a scale.
        data: "first" or "second": the series of one data set see the same examples in the same order, and two
            series are there again on a second data set (the paper's is internet books only).
        training: how the paper trained it.
    """

    description: str
    build: Callable[[Scale], list[ModelSpec]]
    data: Literal["first", "second"] = "first"
    training: PaperTraining = SMALL_TRAINING


SERIES: dict[str, Series] = {
    "small_attention_only": Series("one to six attention layers without MLPs", small_attention_only),
    "small_with_mlps": Series("one to six layers of attention and MLPs", small_with_mlps),
    "full_scale": Series(
        "six sizes that grow in depth and width, with local attention in every second layer",
        full_scale,
        training=FULL_SCALE_TRAINING,
    ),
    "smeared_keys": Series("one and two layers with smeared keys and their controls", smeared_key_models),
    "small_attention_only_second_data": Series(
        "the attention-only models on a second data set", small_attention_only, data="second"
    ),
    "small_with_mlps_second_data": Series("the models with MLPs on a second data set", small_with_mlps, data="second"),
}
"""The paper's 34 models: name of the series -> what it is, how to build it, which data it sees."""
