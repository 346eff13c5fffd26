"""Configurations as JSON and back."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from ih_lens.errors import DamagedFileError
from ih_lens.models.hooked_transformer import HookedTransformerConfig

_LEFT_OUT = {"device", "n_devices", "seed", "n_params"}
"""What says where a model was run or is computed from the rest; a configuration with a seed would set global ones."""


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

    Raises:
        DamagedFileError: if a field does not exist or has an impossible value.
    """
    known = {field.name for field in dataclasses.fields(HookedTransformerConfig)}
    unknown = sorted(set(record) - known)
    if unknown:
        raise DamagedFileError(
            f"{path}: the configuration has fields that this TransformerLens does not know: {', '.join(unknown)}; "
            "use the version that is named in the file"
        )
    stored = getattr(torch, str(record.get("dtype")), None)
    if not isinstance(stored, torch.dtype):
        raise DamagedFileError(f"{path}: {record.get('dtype')!r} is no dtype; restore the file from a copy")
    fields: dict[str, Any] = {name: value for name, value in record.items() if name not in _LEFT_OUT}
    fields |= {"dtype": dtype or stored, "device": device}
    try:
        return HookedTransformerConfig(**fields)
    except (AssertionError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: the configuration is altered ({error}); restore it from a copy") from error


def _plain(value: Any) -> Any:
    """NumPy numbers as Python's, dtypes by name."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, float):
        return float(value)
    return value
