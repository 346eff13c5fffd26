"""The examples of a table as its jobs get them: read from a file beside the measurements, not sent with every job."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import DamagedFileError

_FOLDER = "examples"


@dataclass(frozen=True, eq=False)
class SharedExamples:
    """An evaluation set that pickles as the place of its file; every process reads that once.

    Attributes:
        path: the file, absolute, named by its content.
        fingerprint: of the examples.
    """

    path: Path
    fingerprint: str
    _here: EvalSet | None = None

    @classmethod
    def beside(cls, store: Path, evals: EvalSet) -> "SharedExamples":
        """Examples in the folder of a store, written if they are not there whole."""
        path = store.resolve() / _FOLDER / f"{evals.fingerprint[:40]}.safetensors"
        try:
            EvalSet.load(path, fingerprint=evals.fingerprint)
        except DamagedFileError:
            evals.save(path)
        return cls(path, evals.fingerprint, evals)

    def get(self) -> EvalSet:
        """The evaluation set.

        Raises:
            DamagedFileError: if this process does not see the file, or it was altered.
        """
        return _read(self.path, self.fingerprint) if self._here is None else self._here

    def __reduce__(self) -> tuple[type["SharedExamples"], tuple[Path, str]]:
        return SharedExamples, (self.path, self.fingerprint)


@lru_cache(maxsize=1)
def _read(path: Path, fingerprint: str) -> EvalSet:
    """Kept until this process needs other examples: a worker runs many jobs on the same."""
    if not path.is_file():
        raise DamagedFileError(
            f"this worker sees no {path}; on a cluster, runs and measurements must lie in a folder that all machines "
            "see under the same path"
        )
    return EvalSet.load(path, fingerprint=fingerprint)
