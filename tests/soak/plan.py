"""How large a day is, and the commands that its user gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_STEPS_BETWEEN = 2
_BATCH_SIZE = 4
_N_POS = 48  # of the restart-cycle corpus
_N_EXAMPLES = 12
_MEASUREMENTS = 3  # of every snapshot: losses, scores of heads, ablations


@dataclass(frozen=True)
class Plan:
    """Size and seed of a soak.

    Attributes:
        n_snapshots: of every model.
        n_models: of 1, 2, 3, ... layers.
        workers: processes of every command.
        seed: of the disturbances.
        minutes: days are begun until then; 0 makes one.
        pace: measurements and snapshots between two disturbances, on average.
        cold_every: every so manieth command runs in a fresh Python, its workers too, as a user's; the others in
            copies of one that has imported everything, which saves most of the time. 0 has none.
    """

    n_snapshots: int = 200
    n_models: int = 3
    workers: int = 4
    seed: int = 0
    minutes: float = 10.0
    pace: int = 30
    cold_every: int = 10

    @property
    def names(self) -> list[str]:
        """Names of the models, as the command gives them."""
        return [f"attention_only_{n}L" for n in range(1, self.n_models + 1)]

    @property
    def n_entries(self) -> int:
        """Measurements of one table: no tiny model has induction heads to ablate together."""
        return self.n_models * self.n_snapshots * _MEASUREMENTS

    def train(self, folder: Path, *, workers: int) -> list[str]:
        """The command that trains all models."""
        n_steps = _STEPS_BETWEEN * (self.n_snapshots - 1)
        options = {
            "--out": folder,
            "--n-layers": ",".join(str(n) for n in range(1, self.n_models + 1)),
            "--d-model": 16,
            "--n-heads": 2,
            "--batch-size": _BATCH_SIZE,
            "--train-tokens": n_steps * _BATCH_SIZE * _N_POS,
            "--snapshots": f"every:{_STEPS_BETWEEN}",
            "--n-held-out": _N_EXAMPLES,
            "--precision": "float32",
            "--workers": workers,
        }
        return ["train", "restart-cycle", *_words(options)]

    def table(self, folder: Path, page: Path, numbers: Path, *, workers: int) -> list[str]:
        """The command that measures all of them."""
        runs = [str(folder / name) for name in self.names]
        return ["table", *runs, *_words({"--out": page, "--data": numbers, "--workers": workers})]


def _words(options: Mapping[str, object]) -> list[str]:
    return [str(word) for pair in options.items() for word in pair]
