"""Configurations as JSON and back."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import torch

from ih_lens.errors import DamagedFileError
from ih_lens.models.hooked_transformer import HookedTransformerConfig, hooked_configuration_fields
from ih_lens.reading import cut_short, shown

_LEFT_OUT = {"device", "n_devices", "seed", "n_params"}
"""What says where a model was run or is computed from the rest; a configuration with a seed would set global ones."""
_NOT_TAKEN = {"tokenizer_name", "trust_remote_code"}
"""What would have TransformerLens load a tokenizer that the file names, with code of its own if the file says so."""
_SIZES = ("n_layers", "d_model", "n_heads", "d_head", "n_ctx", "d_vocab")
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "positional_embedding_type": ("standard", "rotary", "shortformer", "alibi", "relative_positional_bias"),
    "normalization_type": ("LN", "LNPre", "RMS", "RMSPre", None),
    "attention_dir": ("causal", "bidirectional"),
}


def config_to_json(cfg: HookedTransformerConfig) -> dict[str, Any]:
    """Every field that describes the model, as numbers, texts and lists.

    Examples:
        >>> config_to_json(attention_only(n_layers=2))["n_layers"]
        2
    """
    fields = {field.name: getattr(cfg, field.name) for field in dataclasses.fields(cfg)}
    return {name: _plain(value) for name, value in fields.items() if name not in _LEFT_OUT}


def config_from_json(
    record: dict[str, Any], *, device: str = "cpu", dtype: torch.dtype | None = None, path: Path | None = None
) -> HookedTransformerConfig:
    """The configuration that `config_to_json` wrote, for a device and, if given, another dtype.

    The name of a tokenizer is not taken over: building a model would load it, from wherever the file says.

    Raises:
        DamagedFileError: if a field does not exist or has an impossible value.
        CapabilityError: under transformer-lens 4.x, which has no such configuration.
    """
    known = set(hooked_configuration_fields())
    unknown = sorted(set(record) - known)
    if unknown:
        raise DamagedFileError(
            f"{path}: the configuration has fields that this TransformerLens does not know: "
            f"{cut_short(', '.join(unknown))}; use the version that is named in the file"
        )
    stored = getattr(torch, str(record.get("dtype")), None)
    if not isinstance(stored, torch.dtype) or not stored.is_floating_point:
        raise DamagedFileError(f"{path}: {shown(record.get('dtype'))} is no dtype; restore the file from a copy")
    fields: dict[str, Any] = {name: value for name, value in record.items() if name not in _LEFT_OUT | _NOT_TAKEN}
    _check_values({name: value for name, value in fields.items() if name != "dtype"}, path)
    fields |= {"dtype": dtype or stored, "device": device}
    try:
        return HookedTransformerConfig(**fields)
    except (AssertionError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedFileError(
            f"{path}: the configuration is altered ({shown(error)}); restore it from a copy"
        ) from error


def _check_values(fields: dict[str, Any], path: Path | None) -> None:
    """Hold types and sizes against what TransformerLens declares, which does not check them itself."""
    hints = typing.get_type_hints(HookedTransformerConfig)
    wrong = [name for name, value in fields.items() if value is not None and not _is_of(value, hints[name])]
    wrong += [name for name in _SIZES if name not in wrong and not _is_size(fields.get(name), name)]
    wrong += [name for name, choices in _CHOICES.items() if name in fields and fields[name] not in choices]
    attn_types = fields.get("attn_types")
    known = attn_types is None or wrong or set(attn_types) <= {"global", "local"}
    if not known or (attn_types is not None and not wrong and len(attn_types) != fields["n_layers"]):
        wrong.append("attn_types")
    if not wrong and (fields.get("rotary_dim") or 0) > fields["d_head"]:  # of tables that no weight is held against
        wrong.append("rotary_dim")
    if wrong:
        raise DamagedFileError(
            f"{path}: in the configuration, {wrong[0]} is {shown(fields.get(wrong[0]))}; restore it from a copy"
        )


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a declared type; whole numbers are floats too, lists are lists of texts."""
    arms = typing.get_args(hint)
    if arms and typing.get_origin(hint) is not list:
        return any(_is_of(value, arm) for arm in arms)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint in (bool, str):
        return isinstance(value, hint)
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_size(value: Any, name: str) -> bool:
    return isinstance(value, int) and value >= (0 if name == "n_layers" else 1)


def _plain(value: Any) -> Any:
    """NumPy numbers as Python's, dtypes by name."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, float):
        return float(value)
    return value
