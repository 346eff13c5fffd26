"""A published model's training as a run: its checkpoints on the hub, each fetched when it is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.errors import IHLensError, InputError, RunError
from ih_lens.models.checkpoint_choice import Revisions, choose_checkpoints, explicit_checkpoints
from ih_lens.models.checkpoints import PublishedCheckpoint, family_of, published_checkpoints, repository_of
from ih_lens.models.config_json import config_from_json
from ih_lens.models.disk_budget import DiskBudget
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.models.hub_errors import explain
from ih_lens.models.hub_files import commit_of, list_commits, list_files, weights_of
from ih_lens.models.hub_retries import with_retries
from ih_lens.models.published_config import keep_tokenizer, kept_tokenizer, read_configuration
from ih_lens.models.published_record import PublishedRecord
from ih_lens.models.published_snapshot import PublishedSnapshot
from ih_lens.validate import at_least

_SECONDS_BEFORE_RETRY = 1.0
_UNEVEN = 2
"""Steps between checkpoints that differ by more than this factor are drawn on a logarithmic axis."""
_GIGABYTE = 10**9


@dataclass(frozen=True)
class PublishedRun:
    """A model's published training checkpoints, usable wherever a `Run` is; made by `published_run`.

    Nothing is downloaded until a snapshot is loaded. For text, `text_examples(run, source, ...)` takes the run itself.

    Attributes:
        path: the folder with the record of the run and with its measurements.
        record: what the folder tells: repository, dtype, configuration, checkpoints and their commits.
        disk_budget_gb: gigabytes of downloaded weights that may lie in the Hugging Face cache.
        retries: how often what may pass is tried again, per checkpoint.
    """

    path: Path
    record: PublishedRecord
    disk_budget_gb: float = 20.0
    retries: int = 4

    @property
    def checkpoints(self) -> tuple[PublishedCheckpoint, ...]:
        """Those asked for, by step."""
        return self.record.checkpoints()

    @property
    def name(self) -> str:
        """The folder's name, the model's unless it was given another."""
        return self.path.resolve().name

    @property
    def repository(self) -> str:
        """The full name on the hub."""
        return self.record.repository

    @property
    def cfg(self) -> HookedTransformerConfig:
        """The model's configuration, for the CPU; a new copy each time."""
        return config_from_json(self.record.model)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as it is kept in the folder; None where the model has none."""
        return kept_tokenizer(self.path)

    @property
    def smeared_keys(self) -> bool:
        """Published models have no smeared keys."""
        return False

    @property
    def snapshots(self) -> Sequence[PublishedSnapshot]:
        """The chosen checkpoints, by step, fetched or not."""
        budget = DiskBudget(int(self.disk_budget_gb * _GIGABYTE))
        return [
            PublishedSnapshot(
                repository=self.repository,
                checkpoint=checkpoint,
                commit=self.record.commits.get(checkpoint.revision),
                model=self.record.model,
                dtype=self.record.dtype,
                budget=budget,
                retries=self.retries,
            )
            for checkpoint in self.checkpoints
        ]

    @property
    def n_steps(self) -> int:
        """The last step that was published."""
        return self.record.n_steps

    @property
    def finished(self) -> bool:
        """Whether the last published checkpoint was chosen."""
        return self.checkpoints[-1].step == self.n_steps

    @property
    def exponential(self) -> bool:
        """Whether the steps between the chosen checkpoints differ so much that a logarithmic axis suits them."""
        steps = [checkpoint.step for checkpoint in self.checkpoints]
        gaps = [later - earlier for earlier, later in pairwise(steps)]
        return len(gaps) > 1 and max(gaps) > _UNEVEN * min(gaps)

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the run, for the records of tables."""
        return {
            "published": {
                "repository": self.repository,
                "dtype": self.record.dtype,
                "tokenizer": self.record.tokenizer,
                "weights": [snapshot.weights_hash for snapshot in self.snapshots],
            }
        }

    @property
    def held_out(self) -> Int[Tensor, "example pos"] | None:
        """None: what a published model was trained on is not kept here; give tables `evals=`."""
        return None


def published_run(
    name: str,
    *,
    revisions: Revisions = "log",
    folder: str | Path | None = None,
    dtype: torch.dtype | None = None,
    tokens_per_step: int | None = None,
    disk_budget_gb: int | float = 20,
    retries: int = 4,
    refresh: bool = False,
) -> PublishedRun:
    """Open the published training checkpoints of a model as a run.

    The folder keeps the commit of every revision, the configuration and the tokenizer, so that a later call asks the
    hub only for what is new. Weights are fetched into the Hugging Face cache when a snapshot is loaded, and dropped
    again, oldest first, when those fetched here exceed the budget; what was in the cache before is never touched.

    Args:
        name: a repository, or a name that TransformerLens knows: "pythia-70m", "stanford-gpt2-small-a".
        revisions: "log" (step 0, the first, doublings, and the last), "all", a number (spread evenly over the steps), a
            list of steps or labels; for any other repository a dictionary {revision: step}, with `tokens_per_step`, or
            a list of `PublishedCheckpoint`.
        folder: of the run, also for its measurements; by default published/<repository>.
        dtype: of the weights when loaded; float32 by default.
        tokens_per_step: tokens of one training step, where the publisher does not say.
        disk_budget_gb: gigabytes of fetched weights that may lie in the cache.
        retries: how often a lost connection, a time-out, half a file or a server's trouble is tried again, with
            pauses that double.
        refresh: look up all commits again, and so notice revisions that were moved.

    Raises:
        InputError: if the model has no such checkpoints, or the hub cannot be asked now.
        RunError: if the folder holds another model, or the same in another dtype.

    Examples:
        >>> run = published_run("pythia-70m", revisions="log")
        >>> evals = text_examples(run, "python-stdlib", n_examples=100)
        >>> ModelAnalysisTable.from_runs([run], evals=evals).to_html("pythia.html")
    """
    at_least("retries", retries, 0)
    if not disk_budget_gb >= 0:
        raise InputError(f"disk_budget_gb: expected gigabytes of at least 0, got {disk_budget_gb!r}")
    repository = repository_of(name)
    place = Path("published") / repository if folder is None else Path(folder)
    kept = _kept_record(place, repository, str(dtype or torch.float32).removeprefix("torch."))
    try:
        record = with_retries(
            lambda: _looked_up(kept, place, revisions, tokens_per_step, refresh=refresh),
            retries=retries,
            pause=_SECONDS_BEFORE_RETRY,
            what=repository,
        )
    except IHLensError:
        raise
    except Exception as error:  # whatever the hub or the connection brings
        raise explain(error, repository) from error
    if record != kept or refresh:
        record.write(place)
    return PublishedRun(place, record, float(disk_budget_gb), retries)


def open_published(path: str | Path) -> PublishedRun | None:
    """The published run that a folder holds, with the checkpoints that were asked for last; None if it holds none.

    Asks the hub for nothing.

    Examples:
        >>> open_published("published/EleutherAI/pythia-70m").n_steps
        143000
    """
    record = PublishedRecord.read(Path(path))
    return None if record is None else PublishedRun(Path(path), record)


def _kept_record(folder: Path, repository: str, dtype: str) -> PublishedRecord:
    """What the folder has, or an empty record."""
    kept = PublishedRecord.read(folder)
    if kept is None:
        return PublishedRecord(repository, dtype, published=(), chosen=(), commits={})
    if (kept.repository, kept.dtype) != (repository, dtype):
        raise RunError(
            f"{folder} holds {kept.repository} in {kept.dtype}, asked for is {repository} in {dtype}; "
            "give another folder="
        )
    return kept


def _looked_up(
    kept: PublishedRecord, folder: Path, revisions: Revisions, tokens_per_step: int | None, *, refresh: bool
) -> PublishedRecord:
    """The record with everything that these revisions need; asks the hub only for what is missing."""
    published, chosen = _chosen(kept, revisions, tokens_per_step, refresh=refresh)
    commits = {} if refresh else dict(kept.commits)
    wanted = {checkpoint.revision for checkpoint in chosen}
    if wanted - set(commits):
        there = list_commits(kept.repository)
        found = {revision: commit_of(revision, there) for revision in wanted - set(commits)}
        commits |= {revision: commit for revision, commit in found.items() if commit is not None}
    resolved = [checkpoint for checkpoint in chosen if checkpoint.revision in commits]
    if not resolved:
        raise InputError(
            f"{kept.repository} has none of the revisions {', '.join(sorted(wanted)[:5])}; its branches and tags are "
            f"listed on https://huggingface.co/{kept.repository}/tree/main"
        )
    record = replace(
        kept, published=tuple(published), chosen=tuple(checkpoint.step for checkpoint in chosen), commits=commits
    )
    if record.model:
        return record
    return _described(record, resolved[-1], folder)


def _described(record: PublishedRecord, checkpoint: PublishedCheckpoint, folder: Path) -> PublishedRecord:
    """The record with what all checkpoints share: configuration, tokenizer, size."""
    repository, commit = record.repository, record.commits[checkpoint.revision]
    model, tokenizer = read_configuration(repository, commit, checkpoint, getattr(torch, record.dtype))
    weights = weights_of(list_files(repository, commit), checkpoint.file)
    size = sum(file.size for file in weights.values())
    return replace(record, model=model, tokenizer=keep_tokenizer(tokenizer, folder), n_bytes=size)


def _chosen(
    kept: PublishedRecord, revisions: Revisions, tokens_per_step: int | None, *, refresh: bool
) -> tuple[list[PublishedCheckpoint], list[PublishedCheckpoint]]:
    """All checkpoints that are known, and those asked for."""
    if isinstance(revisions, Mapping) or (
        isinstance(revisions, list | tuple) and all(isinstance(entry, PublishedCheckpoint) for entry in revisions)
    ):
        chosen = explicit_checkpoints(revisions, tokens_per_step)  # pyright: ignore[reportArgumentType]
        others = {checkpoint.step: checkpoint for checkpoint in kept.published}
        known = others | {checkpoint.step: checkpoint for checkpoint in chosen}
        return [known[step] for step in sorted(known)], chosen
    published = list(kept.published)
    in_files = bool(published) and published[0].file is not None  # then the hub has to be asked for labels
    if refresh or not published or (family_of(kept.repository) is not None and not in_files):
        published = published_checkpoints(kept.repository, tokens_per_step=tokens_per_step)
    return published, choose_checkpoints(published, revisions)  # pyright: ignore[reportArgumentType]
