"""Tokenizers of Hugging Face models, from where the model lies or from where the caller says."""

import copy
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ih_lens.errors import DamagedFileError, InputError
from ih_lens.models.hooked_transformer import HookedTransformer
from ih_lens.models.hub_errors import explain
from ih_lens.reading import panics_as_errors

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
"""A folder or repository with none of these has no tokenizer."""
_OWN_FILES: dict[str, Any] = {"tokenizer_file": None, "vocab_file": None, "merges_file": None}
"""Overrides paths in tokenizer_config.json, which `transformers` before 5.15 follows out of the folder."""


def tokenizer_of(place: str, revision: str | None = None) -> PreTrainedTokenizerBase | None:
    """The tokenizer that lies with a model, None if none does.

    Args:
        place: a folder or a repository of the hub.
        revision: branch, tag or commit, for a repository.

    Raises:
        DamagedFileError: if there is one that cannot be read.
        InputError: if the hub cannot be reached to look.
    """
    has_one = _in_folder(Path(place)) if Path(place).is_dir() else _in_repository(place, revision)
    return _read(place, revision) if has_one else None


def tokenizer_from(given: Any) -> tuple[PreTrainedTokenizerBase, str]:
    """A tokenizer from a tokenizer.json, a folder, or a tokenizer object, which is copied; and where it came from.

    Raises:
        InputError: if nothing is found there, or it is something else.
    """
    if isinstance(given, PreTrainedTokenizerBase):
        return copy.deepcopy(given), f"given ({type(given).__name__})"
    if not isinstance(given, str | Path):
        raise InputError(
            f"tokenizer: expected a path or a tokenizer of transformers, got {type(given).__name__}; wrap one of "
            "`tokenizers` as PreTrainedTokenizerFast(tokenizer_object=..., bos_token=...)"
        )
    place = Path(given).absolute()
    if place.is_dir() and _in_folder(place):
        return _read(str(place), None), str(place)
    if not place.is_file():
        raise InputError(f"tokenizer: {place} is neither a tokenizer.json nor a folder with one; check the path")
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(place)), str(place)
    except Exception as error:  # the library raises bare ones
        raise DamagedFileError(f"{place} is no tokenizer.json ({str(error)[:200]}); restore it from a copy") from error


def attach(model: HookedTransformer, tokenizer: PreTrainedTokenizerBase, *, given: bool) -> int | None:
    """Give a model a tokenizer, as TransformerLens does but without loading anything anew.

    Args:
        model: gets `tokenizer`; what it prepends by default stays as the configuration of its architecture says,
            and is off where there is nothing to prepend.
        tokenizer: is changed: TransformerLens names a padding token, and a start token where there is none.
        given: whether the caller gave it, so that it may be another model's.

    Returns:
        The id of the tokenizer's own start token, None if it has none.

    Raises:
        InputError: if a given tokenizer produces ids that the model does not know.
        DamagedFileError: if its settings cannot be used.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if given and highest >= model.cfg.d_vocab:
        raise InputError(
            f"tokenizer: it produces ids up to {highest}, the model knows {model.cfg.d_vocab}; give the model's own"
        )
    start: Any = tokenizer.bos_token_id
    tokenizer.init_kwargs.setdefault("name_or_path", tokenizer.name_or_path)
    tokenizer.init_kwargs["add_bos_token"] = True  # or TransformerLens would load it anew from `name_or_path`
    try:
        model.set_tokenizer(tokenizer)
    except Exception as error:  # settings of the tokenizer that only its use shows to be wrong
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DamagedFileError(f"the tokenizer cannot be used ({said}); restore its files, or give another") from error
    return None if start is None else int(start)


def _in_folder(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _FILES)


def _in_repository(repository: str, revision: str | None) -> bool:
    """Whether a repository has a tokenizer; without the network, what is in the cache counts."""
    for name in _FILES:
        known: Any = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(known, str):
            return True
        if known is None and _download(repository, name, revision):
            return True
    return False


def _download(repository: str, name: str, revision: str | None) -> bool:
    try:
        hf_hub_download(repository, name, revision=revision)
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            return False
        raise explain(error, repository, revision) from error
    except EntryNotFoundError:
        return False
    except Exception as error:  # whatever the hub or the connection brings
        raise explain(error, repository, revision) from error
    return True


def _read(place: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        with panics_as_errors():
            return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False, **_OWN_FILES)
    except Exception as error:  # whatever transformers, tokenizers or a file brings
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DamagedFileError(
            f"the tokenizer of {place} cannot be read ({said}); restore its files, or give tokenizer= another one"
        ) from error
