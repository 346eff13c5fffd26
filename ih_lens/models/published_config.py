"""A published model's configuration and tokenizer, read without its weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from ih_lens.models.architectures import language_model_class
from ih_lens.models.checkpoints import PublishedCheckpoint
from ih_lens.models.config_json import config_to_json
from ih_lens.models.conversion import hooked_configuration
from ih_lens.models.hooked_repositories import read_hooked_configuration
from ih_lens.models.huggingface_tokenizers import tokenizer_of
from ih_lens.models.vocabulary import vocabulary_hash

TOKENIZER_FOLDER = "tokenizer"


def read_configuration(
    repository: str, commit: str, checkpoint: PublishedCheckpoint, dtype: torch.dtype
) -> tuple[dict[str, Any], PreTrainedTokenizerBase | None]:
    """The configuration that the model will have when it is loaded, ready for JSON, and its tokenizer, if it has one.

    Fetches small files only.
    """
    if checkpoint.file is not None:
        cfg, place = read_hooked_configuration(repository, commit, dtype=dtype)
        return config_to_json(cfg), None if place is None else tokenizer_of(place)
    config: Any = AutoConfig.from_pretrained(repository, revision=commit, trust_remote_code=False)
    architecture = str(language_model_class(config))
    cfg = hooked_configuration(architecture, config, name=repository, device="cpu", dtype=dtype)
    return config_to_json(cfg), tokenizer_of(repository, commit)


def keep_tokenizer(tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> str | None:
    """Keep a tokenizer in a run's folder, so that text can be tokenized without the hub.

    Returns:
        A hash of its vocabulary, the same for all models to which the same ids are the same text; None without one.
    """
    if tokenizer is None:
        return None
    tokenizer.save_pretrained(str(folder / TOKENIZER_FOLDER))
    return vocabulary_hash(tokenizer.get_vocab())


def kept_tokenizer(folder: Path) -> Any:
    """What `keep_tokenizer` kept; None where there is none."""
    place = folder / TOKENIZER_FOLDER
    return tokenizer_of(str(place)) if place.is_dir() else None
