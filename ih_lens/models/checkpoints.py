"""Published training checkpoints: which families of models have them, under which labels, after how many tokens."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ih_lens.errors import InputError
from ih_lens.models.hooked_transformer import (
    PYTHIA_CHECKPOINTS,
    PYTHIA_V0_CHECKPOINTS,
    STANFORD_CRFM_CHECKPOINTS,
    get_checkpoint_labels,
    get_official_model_name,
)
from ih_lens.models.hub_files import list_files

_FILE_OF_CHECKPOINT = re.compile(r"checkpoints/.*_(\d+)\.pth")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One published checkpoint of a model in training.

    Attributes:
        revision: branch, tag or 40-digit commit of the repository.
        step: optimiser steps before it; where a publisher labels by tokens, those.
        tokens_elapsed: tokens trained on before it.
        file: what holds its weights, for repositories that keep all checkpoints as files of one revision.

    Examples:
        >>> PublishedCheckpoint("step512", step=512, tokens_elapsed=512 * 2_097_152)
        PublishedCheckpoint(revision='step512', step=512, tokens_elapsed=1073741824, file=None)
    """

    revision: str
    step: int
    tokens_elapsed: int
    file: str | None = None


@dataclass(frozen=True)
class CheckpointFamily:
    """Models whose checkpoints were published in one way.

    Attributes:
        name: what documentation and records call it.
        repositories: regular expression that a repository's full name matches.
        tokens_per_step: of the training that its labels count; None where labels need not be steps.
        checkpoints: from the repository's name, and the tokens per step, to all its checkpoints.
        labels: how many checkpoints there are, and what labels count.
    """

    name: str
    repositories: str
    tokens_per_step: int | None
    checkpoints: Callable[[str, int | None], list[PublishedCheckpoint]]
    labels: str


def published_checkpoints(name: str, *, tokens_per_step: int | None = None) -> list[PublishedCheckpoint]:
    """Every published checkpoint of a model, by step.

    Args:
        name: a repository or a name of TransformerLens, such as "pythia-70m".
        tokens_per_step: tokens of one training step, where the publisher does not say; instead of the family's.

    Raises:
        InputError: if the model belongs to no known family, or its labels are steps of an unknown number of tokens.

    Examples:
        >>> len(published_checkpoints("pythia-70m")), published_checkpoints("pythia-70m")[-1].tokens_elapsed
        (154, 299892736000)
    """
    repository = repository_of(name)
    family = family_of(repository)
    if family is None:
        known = "; ".join(f"{family.name} ({family.labels})" for family in FAMILIES)
        raise InputError(
            f"{repository}: no published checkpoints are known; there are those of {known}. For another repository "
            "give its revisions with their steps, such as revisions={'step-100': 100} and tokens_per_step="
        )
    return sorted(
        family.checkpoints(repository, tokens_per_step or family.tokens_per_step), key=lambda found: found.step
    )


def family_of(repository: str) -> CheckpointFamily | None:
    """The family that a repository belongs to, if any."""
    return next((family for family in FAMILIES if re.fullmatch(family.repositories, repository)), None)


def repository_of(name: str) -> str:
    """The repository's full name; names that TransformerLens does not know are taken as they are."""
    try:
        return get_official_model_name(name)
    except ValueError:
        return name


def _branches(label: str, steps: Sequence[int]) -> Callable[[str, int | None], list[PublishedCheckpoint]]:
    """Checkpoints that are branches, named after their step."""

    def checkpoints(repository: str, tokens_per_step: int | None) -> list[PublishedCheckpoint]:  # noqa: ARG001
        return [PublishedCheckpoint(label.format(step), step, step * (tokens_per_step or 0)) for step in steps]

    return checkpoints


def _files(repository: str, tokens_per_step: int | None) -> list[PublishedCheckpoint]:
    """Checkpoints that are files of one revision, labelled by steps or by tokens, as TransformerLens tells."""
    labels, kind = get_checkpoint_labels(repository)
    if kind == "step" and tokens_per_step is None:
        raise InputError(
            f"{repository} labels its checkpoints by steps and does not say of how many tokens; give tokens_per_step= "
            "(batch size times context)"
        )
    factor = 1 if kind == "token" else tokens_per_step or 0
    found = {int(match[1]): match[0] for match in map(_FILE_OF_CHECKPOINT.fullmatch, list_files(repository)) if match}
    return [PublishedCheckpoint("main", label, label * factor, found[label]) for label in sorted(labels)]


FAMILIES = (
    CheckpointFamily(
        "Pythia v0", r"EleutherAI/pythia-.*v0", 2_097_152, _branches("step{}", PYTHIA_V0_CHECKPOINTS), "143 steps"
    ),
    CheckpointFamily(
        "Pythia", r"EleutherAI/pythia-.*", 2_097_152, _branches("step{}", PYTHIA_CHECKPOINTS), "154 steps"
    ),
    CheckpointFamily(
        "Stanford's GPT-2",
        r"stanford-crfm/.*",
        512 * 1024,
        _branches("checkpoint-{}", STANFORD_CRFM_CHECKPOINTS),
        "609 steps",
    ),
    CheckpointFamily("TransformerLens's small models", r"NeelNanda/.*", None, _files, "files, by steps or tokens"),
)
"""The first whose pattern matches is taken."""
