"""Repositories of the hub that hold TransformerLens's own format: the attention-only and SoLU models and few others.

Their weights are PyTorch files. TransformerLens unpickles them as code; here they are read as tensors only.
"""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, hf_hub_download
from torch import Tensor

from ih_lens.errors import DamagedFileError, InputError
from ih_lens.models.construction import build_model
from ih_lens.models.hooked_transformer import (
    HookedTransformer,
    HookedTransformerConfig,
    convert_mingpt_weights,
    convert_neel_solu_old_weights,
)
from ih_lens.models.hub_errors import explain
from ih_lens.models.processing import process_weights
from ih_lens.reading import read_json

_OWNERS = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")
_CONVERSIONS = {"neel-solu-old": convert_neel_solu_old_weights, "mingpt": convert_mingpt_weights}
_FIELDS = ("d_model", "n_layers", "d_mlp", "d_head", "n_heads", "n_ctx", "d_vocab", "act_fn", "attn_only")
_CHECKPOINT = re.compile(r"checkpoints/.*_(\d+)\.pth")


def is_hooked_repository(repository: str) -> bool:
    """Whether a repository's full name is one of those."""
    return repository.startswith(_OWNERS)


def load_hooked(
    repository: str,
    *,
    revision: str | None,
    checkpoint: int | None,
    device: str,
    dtype: torch.dtype,
    process: bool,
) -> tuple[HookedTransformer, str | None, str | None]:
    """Load a model in TransformerLens's own format.

    Args:
        repository: its full name.
        revision: branch, tag or commit.
        checkpoint: the number in the name of a file under `checkpoints/`; the final weights by default.
        device: where to put it.
        dtype: of the weights.
        process: fold LayerNorm and value biases and centre the weights.

    Returns:
        The model without a tokenizer, the commit where known, and the name of the tokenizer's repository if the
        configuration has one.

    Raises:
        InputError: if there is no such model, revision or checkpoint, or the hub cannot be reached.
        DamagedFileError: if the files do not hold what the configuration says.
    """
    try:
        record = Path(hf_hub_download(repository, "config.json", revision=revision))
        commit = record.parent.name if re.fullmatch("[0-9a-f]{40}", record.parent.name) else None
        file = _weights_file(repository, commit or revision, checkpoint, record.parent)
        weights_path = hf_hub_download(repository, file, revision=commit or revision)
    except InputError:
        raise
    except Exception as error:  # whatever the hub or the connection brings
        raise explain(error, repository, revision) from error
    described: dict[str, Any] = read_json(record)
    cfg = _configuration(described, repository, device=device, dtype=dtype)
    model = _filled(build_model(cfg), _read(weights_path, cfg, dtype), weights_path)
    if process:
        process_weights(model)
    return model, commit, described.get("tokenizer_name")


def read_hooked_configuration(
    repository: str, revision: str | None, *, dtype: torch.dtype
) -> tuple[HookedTransformerConfig, str | None]:
    """The configuration that `load_hooked` gives, and the name of the tokenizer's repository; fetches no weights."""
    record = Path(hf_hub_download(repository, "config.json", revision=revision))
    described: dict[str, Any] = read_json(record)
    return _configuration(described, repository, device="cpu", dtype=dtype), described.get("tokenizer_name")


def _configuration(
    described: dict[str, Any], repository: str, *, device: str, dtype: torch.dtype
) -> HookedTransformerConfig:
    """The configuration as these repositories spell it."""
    old = "neel-solu-old" if "_old" in repository else "neel"
    return HookedTransformerConfig(
        **{field: described[field] for field in _FIELDS},
        normalization_type=described.get("normalization", described.get("normalization_type")),
        positional_embedding_type="shortformer" if described.get("shortformer_pos") else "standard",
        final_rms=described.get("final_rms", False),
        original_architecture=described.get("architecture", old),
        model_name=repository.split("/")[-1],
        init_weights=False,
        device=device,
        dtype=dtype,
    )


def _weights_file(repository: str, revision: str | None, checkpoint: int | None, cached: Path) -> str:
    """The name of the file with the weights that were asked for."""
    names = _file_names(repository, revision, cached)
    if checkpoint is None:
        final = [name for name in names if name.endswith("final.pth")]
        if final:
            return final[0]
        raise InputError(f"{repository} holds no final weights (*final.pth); choose with checkpoint=")
    found = {int(match[1]): name for name in names if (match := _CHECKPOINT.fullmatch(name))}
    if checkpoint not in found:
        nearest = sorted(found, key=lambda number: abs(number - checkpoint))[:4]
        raise InputError(
            f"{repository} has no checkpoint {checkpoint}; the nearest of {len(found)} are "
            f"{', '.join(map(str, sorted(nearest))) or 'none'}"
        )
    return found[checkpoint]


def _file_names(repository: str, revision: str | None, cached: Path) -> list[str]:
    """The repository's files; without the network those in the cache."""
    if constants.HF_HUB_OFFLINE:
        return [str(path.relative_to(cached)) for path in sorted(cached.rglob("*")) if path.is_file()]
    return HfApi().list_repo_files(repository, revision=revision)


def _read(path: str, cfg: HookedTransformerConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by where the file ends
        raise DamagedFileError(
            f"{path} is truncated or holds more than tensors ({str(error).splitlines()[0][:200]}); delete it from the "
            "cache, and load again"
        ) from error
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    convert = _CONVERSIONS.get(str(cfg.original_architecture))
    return weights if convert is None else convert(weights, cfg)


def _filled(model: HookedTransformer, weights: dict[str, Tensor], path: str) -> HookedTransformer:
    """The model with these weights; a file may hold masks beside them, and none of some biases, which are zero."""
    wrong: list[str] = []
    for name, parameter in model.named_parameters():
        weight = weights.get(name)
        is_bias = name.rsplit(".", 1)[-1].startswith("b")
        if weight is None and is_bias:
            continue
        if weight is None or weight.shape != parameter.shape:
            wrong.append(name)
        else:
            parameter.data.copy_(weight)
    if wrong:
        raise DamagedFileError(f"{path} does not fit its configuration: {', '.join(wrong[:5])}; load it again")
    model.cfg.init_weights = True
    return model.eval()
