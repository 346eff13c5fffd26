"""What the folder of a published run keeps, so that a later call needs the hub only for what is new."""

import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ih_lens.atomic import to_json_bytes, write_bytes
from ih_lens.errors import DamagedFileError
from ih_lens.models.checkpoints import PublishedCheckpoint
from ih_lens.models.files import entry, read_record

PUBLISHED_RECORD = "published.json"
_FORMAT = "ih_lens published run"
_VERSION = 1
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FIELDS = {field.name for field in fields(PublishedCheckpoint)}
_KINDS: dict[str, type] = {
    "repository": str,
    "dtype": str,
    "published": list,
    "chosen": list,
    "commits": dict,
    "model": dict,
    "n_bytes": int,
}
_DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class PublishedRecord:
    """One model's published checkpoints, as they were looked up.

    Attributes:
        repository: full name on the hub.
        dtype: of the weights when loaded, such as "float32".
        published: all checkpoints that are known, by step.
        chosen: steps of those that were asked for last.
        commits: of revisions that were looked up; one that the repository does not have is absent.
        model: the configuration, as `config_to_json` writes it.
        tokenizer: hash of the vocabulary; None where the model has no tokenizer.
        n_bytes: size of the weights of one checkpoint, the last that was found at first.
    """

    repository: str
    dtype: str
    published: tuple[PublishedCheckpoint, ...]
    chosen: tuple[int, ...]
    commits: dict[str, str]
    model: dict[str, Any] = field(default_factory=dict[str, Any])
    tokenizer: str | None = None
    n_bytes: int = 0

    @property
    def n_steps(self) -> int:
        """The last step that was published."""
        return self.published[-1].step

    def checkpoints(self) -> tuple[PublishedCheckpoint, ...]:
        """Those chosen, by step."""
        return tuple(checkpoint for checkpoint in self.published if checkpoint.step in self.chosen)

    def write(self, folder: Path) -> None:
        """Put the record into its folder, in one step."""
        record = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        write_bytes(folder / PUBLISHED_RECORD, to_json_bytes(record))

    @classmethod
    def read(cls, folder: Path) -> "PublishedRecord | None":
        """The record of a folder; None if it has none.

        Raises:
            DamagedFileError: if it is altered or of another version.
        """
        file = folder / PUBLISHED_RECORD
        if not file.exists():
            return None
        record = read_record(folder, PUBLISHED_RECORD, kind=_FORMAT, version=_VERSION)
        found: dict[str, Any] = {name: entry(record, name, kind, file) for name, kind in _KINDS.items()}
        found |= {"tokenizer": record.get("tokenizer")}
        found["published"] = tuple(_checkpoint(values, file) for values in found["published"])
        if wrong := _wrong(found):
            raise DamagedFileError(f"{file} is altered: {wrong}; delete it, and open the run again")
        found["chosen"] = tuple(found["chosen"])
        return cls(**found)


def _wrong(found: dict[str, Any]) -> str:
    """What of a record cannot be, nothing if all can."""
    steps, chosen, tokenizer = (
        [checkpoint.step for checkpoint in found["published"]],
        found["chosen"],
        found["tokenizer"],
    )
    checks = {
        "the repository is no name on the hub": _NAME.fullmatch(found["repository"]),
        "the dtype is none of weights": found["dtype"] in _DTYPES,
        "the published steps do not rise": steps == sorted(set(steps)),
        "chosen steps are not among the published ones": chosen and all(_is_one_of(step, steps) for step in chosen),
        "a commit is not 40 hexadecimal digits": all(_is_commit(commit) for commit in found["commits"].values()),
        "the tokenizer's hash is no text": tokenizer is None or isinstance(tokenizer, str),
    }
    return next((wrong for wrong, sound in checks.items() if not sound), "")


def _checkpoint(values: Any, file: Path) -> PublishedCheckpoint:
    """One line of the listing.

    Raises:
        DamagedFileError: if it is none, or names a file outside its repository.
    """
    known = values if isinstance(values, dict) and set(values) <= _FIELDS else {}
    weights = known.get("file")
    if weights is not None and (
        not isinstance(weights, str) or ".." in Path(weights).parts or Path(weights).is_absolute()
    ):
        raise DamagedFileError(f"{file}: {weights!r} is no file of a repository; delete it, and open the run again")
    return PublishedCheckpoint(
        revision=entry(known, "revision", str, file),
        step=entry(known, "step", int, file),
        tokens_elapsed=entry(known, "tokens_elapsed", int, file),
        file=weights,
    )


def _is_one_of(step: Any, steps: list[int]) -> bool:
    return type(step) is int and step in steps


def _is_commit(commit: Any) -> bool:
    return isinstance(commit, str) and _COMMIT.fullmatch(commit) is not None
