"""Configurations of the paper's small models; everything about them is a plain `HookedTransformerConfig`."""

import difflib
from typing import Any, Literal, TypeAlias

from ih_lens.errors import InputError
from ih_lens.models.hooked_transformer import HookedTransformerConfig, hooked_configuration_fields
from ih_lens.validate import at_least, one_of

Positions: TypeAlias = Literal["shortformer", "standard", "rotary"]

_OWN_NAMES = {
    "positional_embedding_type": "use positions= instead",
    "attn_only": "attention_only() has no MLPs, with_mlps() has them",
    "seed": "TransformerLens would seed PyTorch, NumPy and Python globally; give seed= to build_model or TrainConfig",
}


def attention_only(
    n_layers: int,
    *,
    d_model: int = 256,
    n_heads: int = 8,
    d_vocab: int = 4096,
    n_ctx: int = 512,
    positions: Positions = "shortformer",
    device: str = "cpu",
    **changes: Any,
) -> HookedTransformerConfig:
    """Configuration of a transformer with attention layers and no MLPs, as the paper's small models.

    Args:
        n_layers: number of layers.
        d_model: width of the residual stream.
        n_heads: heads per layer; each has d_model / n_heads dimensions unless `d_head` is among the changes.
        d_vocab: size of the vocabulary.
        n_ctx: tokens of context.
        positions: "shortformer" adds learned positions to the inputs of queries and keys only, the paper's "variant
            on the standard positional embeddings (similar to Press et al.)"; "standard" adds them to the
            residual stream; "rotary" rotates queries and keys.
        device: where `build_model` puts the model. Nothing chooses a GPU by itself: ask for "cuda".
        **changes: any other field of `HookedTransformerConfig`.

    Raises:
        InputError: if the sizes do not fit together or a field does not exist.

    Examples:
        >>> attention_only(n_layers=2).d_head
        32
    """
    sizes = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_vocab": d_vocab, "n_ctx": n_ctx}
    return _configuration(sizes, positions, {"device": device, **changes}, {"attn_only": True})


def with_mlps(
    n_layers: int,
    *,
    d_model: int = 256,
    n_heads: int = 8,
    d_vocab: int = 4096,
    n_ctx: int = 512,
    d_mlp: int | None = None,
    act_fn: str = "gelu_new",
    positions: Positions = "shortformer",
    device: str = "cpu",
    **changes: Any,
) -> HookedTransformerConfig:
    """Configuration of a transformer whose layers have attention and an MLP; else as `attention_only`.

    Args:
        n_layers: number of layers.
        d_model: width of the residual stream.
        n_heads: heads per layer.
        d_vocab: size of the vocabulary.
        n_ctx: tokens of context.
        d_mlp: neurons per layer, 4 * d_model by default.
        act_fn: the neurons' activation function, a name that TransformerLens knows.
        positions: "shortformer", "standard" or "rotary", as in `attention_only`.
        device: where `build_model` puts the model.
        **changes: any other field of `HookedTransformerConfig`.

    Raises:
        InputError: if the sizes do not fit together or a field does not exist.

    Examples:
        >>> with_mlps(n_layers=1, d_model=64, n_heads=4).d_mlp
        256
    """
    sizes = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_vocab": d_vocab, "n_ctx": n_ctx}
    sizes["d_mlp"] = 4 * d_model if d_mlp is None else d_mlp
    return _configuration(sizes, positions, {"device": device, **changes}, {"attn_only": False, "act_fn": act_fn})


def _configuration(
    sizes: dict[str, int], positions: str, changes: dict[str, Any], fixed: dict[str, Any]
) -> HookedTransformerConfig:
    for name, size in sizes.items():
        at_least(name, size, 1)
    _check_names(changes)
    settings: dict[str, Any] = {
        **sizes,
        **fixed,
        "positional_embedding_type": one_of("positions", positions, ("shortformer", "standard", "rotary")),
        "d_head": changes.get("d_head") or _d_head(sizes),
        **changes,
    }
    _check_heads(settings)
    try:
        return HookedTransformerConfig(**settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"TransformerLens refuses this configuration: {error}") from error


def _check_names(changes: dict[str, Any]) -> None:
    known = hooked_configuration_fields()
    for name in changes:
        if name in _OWN_NAMES:
            raise InputError(f"{name}= is not taken here: {_OWN_NAMES[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else "; see its documentation for the fields it has"
            raise InputError(f"HookedTransformerConfig has no field {name!r}{hint}")


def _d_head(sizes: dict[str, int]) -> int:
    if sizes["d_model"] % sizes["n_heads"]:
        raise InputError(
            f"d_model={sizes['d_model']} cannot be divided among n_heads={sizes['n_heads']}; "
            "choose a multiple, or give d_head= explicitly"
        )
    return sizes["d_model"] // sizes["n_heads"]


def _check_heads(settings: dict[str, Any]) -> None:
    n_heads, n_key_value_heads = settings["n_heads"], settings.get("n_key_value_heads")
    if n_key_value_heads is not None and n_heads % at_least("n_key_value_heads", n_key_value_heads, 1):
        raise InputError(f"n_heads={n_heads} must be a multiple of n_key_value_heads={n_key_value_heads}")
    if settings["positional_embedding_type"] == "rotary":
        rotary_dim = settings.get("rotary_dim") or settings["d_head"]
        if rotary_dim % 2 or rotary_dim > settings["d_head"]:
            raise InputError(
                f"rotary positions turn pairs of dimensions: expected an even number of at most d_head="
                f"{settings['d_head']}, got {rotary_dim}; choose other n_heads or give rotary_dim="
            )
    attn_types = settings.get("attn_types")
    if attn_types is not None and len(attn_types) != settings["n_layers"]:
        raise InputError(f"attn_types: expected one entry per layer ({settings['n_layers']}), got {len(attn_types)}")
