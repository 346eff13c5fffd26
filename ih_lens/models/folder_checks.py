"""What is looked at in a folder in the Hugging Face format before `transformers` reads it.

The folder may come from anybody: `transformers` would follow names out of it, wait for a pipe, or build a model of any
size that a configuration names.
"""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ih_lens.errors import DamagedFileError, InputError
from ih_lens.reading import read_json, shown

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = (".safetensors", ".bin")
_ADAPTER = "adapter_config.json"
_FILE_NAME = re.compile(r"(?!\.+$)[^/\\\x00]{1,255}")


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files lead elsewhere.

    Links are followed, because the cache of the hub consists of them: what they lead to is read as weights or as JSON,
    and is shown to nobody.

    Raises:
        DamagedFileError: if a file is none, or an index names weights outside the folder.
        InputError: if it holds an adapter, which belongs to a model that lies elsewhere.
    """
    for path in folder.iterdir():
        if path.suffix in (".json", *_WEIGHTS) and not path.is_file() and not path.is_dir():
            raise DamagedFileError(f"{path} is no file, or a link to none; restore it from a copy")
    if (folder / _ADAPTER).exists():
        raise InputError(
            f"{folder} holds an adapter ({_ADAPTER}); merge it into its model with merge_and_unload() of peft, save "
            "that model, and load its folder"
        )
    for name in _INDICES:
        if (folder / name).exists():
            indexed_weights(folder / name)


def check_sizes(folder: Path, config: Any) -> None:
    """Refuse a configuration of more weights than the folder's files can hold, before any memory is taken for them.

    Raises:
        DamagedFileError: if it is one, or its sizes are no numbers, or it names weights outside the folder.
    """
    named: Any = getattr(config, "transformers_weights", None)
    if named is not None and not _is_file_name(named):
        raise DamagedFileError(
            f"{folder / 'config.json'} names {shown(named)}, which is no file beside it; restore it from a copy"
        )
    n_bytes = _bytes_of_weights(folder)
    sizes: list[Any] = [getattr(config, name, None) for name in ("num_hidden_layers", "vocab_size", "hidden_size")]
    wide: Any = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 1
    if not all(type(size) is int and size > 0 for size in [*sizes, wide]):
        raise DamagedFileError(
            f"{folder / 'config.json'}: expected positive numbers of layers, of tokens, and the width, got {sizes}; "
            "restore it from a copy"
        )
    n_layers, d_vocab, d_model = sizes
    if n_bytes and max(n_layers, d_vocab, wide) * d_model > n_bytes:
        raise DamagedFileError(
            f"{folder / 'config.json'}: {n_layers:,} layers of width {d_model:,} and {d_vocab:,} tokens are more than "
            f"the weights beside it, {n_bytes:,} bytes, can hold; restore the files from a copy"
        )


def check_parameters(folder: Path, config: Any) -> None:
    """Refuse a configuration of more parameters than the folder's files have bytes, wherever it puts them.

    The model is made without memory for it, which `check_sizes` has to allow first: layers are made one by one.

    Raises:
        DamagedFileError: if it is one.
    """
    n_bytes = _bytes_of_weights(folder)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if n_bytes and n_parameters > n_bytes:
        raise DamagedFileError(
            f"{folder / 'config.json'}: {n_parameters:,} parameters are more than the weights beside it, {n_bytes:,} "
            "bytes, can hold; restore the files from a copy"
        )


def indexed_weights(index: Path) -> set[str]:
    """The names of the files that hold a model's weights, all of which lie beside the index that lists them.

    Raises:
        DamagedFileError: if it is no index, or names something else.
    """
    record = read_json(index)
    places = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(places, dict) or not places:
        raise DamagedFileError(f"{index} is no index of weights, which has a 'weight_map'; restore it from a copy")
    for name in places.values():
        if not _is_file_name(name):
            raise DamagedFileError(f"{index} names {shown(name)}, which is no file beside it; restore it from a copy")
    return set(places.values())


def _bytes_of_weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS)


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None
