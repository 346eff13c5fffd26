"""What a repository on the Hugging Face hub holds: its revisions' commits, and the files and sizes of one revision."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi, RepoFile, constants

from ih_lens.errors import DamagedFileError, DownloadError
from ih_lens.models.folder_checks import indexed_weights

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL = re.compile(r"[^/]+\.(json|txt|model|jinja)")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; with `.index.json` behind where they are sharded."""


@dataclass(frozen=True)
class HubFile:
    """A file of one revision.

    Attributes:
        size: in bytes.
        sha256: of its content, for what the hub keeps as large files; None for others.
    """

    size: int
    sha256: str | None


def list_commits(repository: str) -> dict[str, str]:
    """The commit of every branch and tag of a repository, in one request."""
    refs = HfApi().list_repo_refs(repository)
    return {ref.name: ref.target_commit for ref in [*refs.tags, *refs.branches]}


def commit_of(revision: str, commits: Mapping[str, str]) -> str | None:
    """The commit of a branch, tag or commit; None if the repository has none of that name."""
    return revision if _COMMIT.fullmatch(revision) else commits.get(revision)


def list_files(repository: str, commit: str | None = None) -> dict[str, HubFile]:
    """The files of a revision by path, in one request."""
    tree = HfApi().list_repo_tree(repository, recursive=True, revision=commit)
    return {
        entry.path: HubFile(entry.size, entry.lfs.sha256 if entry.lfs else None)
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def weights_of(files: Mapping[str, HubFile], file: str | None = None) -> dict[str, HubFile]:
    """The files with a model's weights: what transformers would read, and nothing that holds the same once more.

    Args:
        files: of the revision.
        file: the one that holds this checkpoint, where one revision holds many.

    Raises:
        DownloadError: if there are none.
    """
    if file is not None:
        return {file: files[file]}
    for name in _WEIGHTS:
        if name in files:
            return {name: files[name]}
        stem, suffix = name.split(".")
        shards = {path: size for path, size in files.items() if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", path)}
        if f"{name}.index.json" in files and shards:
            return shards
    raise DownloadError(f"the revision holds no {' or '.join(_WEIGHTS)}, but only {', '.join(sorted(files)[:8])}")


def cached_weights(repository: str, commit: str, file: str | None = None) -> dict[str, HubFile]:
    """The files with a model's weights, if all of them are in the cache; asks the hub for nothing."""
    for name in _WEIGHTS if file is None else (file,):
        index = cached_file(repository, f"{name}.index.json", commit)
        try:
            shards = [name] if index is None else indexed_weights(index)
        except DamagedFileError:  # loading says so, and the table goes on without this checkpoint
            return {}
        found = {path: cached_file(repository, path, commit) for path in shards}
        there = {path: HubFile(place.stat().st_size, None) for path, place in found.items() if place is not None}
        if len(there) == len(found):
            return there
    return {}


def small_files(files: Mapping[str, HubFile]) -> list[str]:
    """Configuration and tokenizer, which loading needs beside the weights."""
    return [path for path in files if _SMALL.fullmatch(path)]


def cached_file(repository: str, path: str, revision: str) -> Path | None:
    """Where a file of a branch, tag or commit lies in the cache, None if it is not there."""
    found: Any = huggingface_hub.try_to_load_from_cache(repository, path, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_commit(repository: str, revision: str | None, path: str = "config.json") -> str | None:
    """The commit that a revision stood for when a file of it was fetched last; None if that is not in the cache."""
    found = cached_file(repository, path, revision or constants.DEFAULT_REVISION)
    return None if found is None or not _COMMIT.fullmatch(found.parent.name) else found.parent.name
