"""The same training under several conditions and seeds, and when each of them learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from torch import Tensor

from ih_lens.clamping.plan import Clamps
from ih_lens.data.corpus import Corpus
from ih_lens.errors import InputError
from ih_lens.models.hooked_transformer import HookedTransformerConfig
from ih_lens.models.runs import Run
from ih_lens.models.series import ModelSpec
from ih_lens.training.config import TrainConfig
from ih_lens.training.series import train_series
from ih_lens.validate import at_least


@dataclass(frozen=True)
class ConditionRuns:
    """Runs by condition and seed; see `train_conditions`.

    Attributes:
        runs: per condition its runs by seed.
    """

    runs: Mapping[str, Mapping[int, Run]]

    def losses(self, condition: str, seed: int, window: int = 1) -> pd.Series:
        """Training loss by step in nats, as the mean of the last `window` steps.

        Raises:
            InputError: if there is no such run.
        """
        if condition not in self.runs or seed not in self.runs[condition]:
            raise InputError(f"no run of {condition!r} with seed {seed}; there are {', '.join(self.runs)}")
        found = self.runs[condition][seed].losses
        losses = pd.Series(found["loss"].to_numpy(), index=pd.Index(found["step"], name="step"), name="loss")
        return cast(pd.Series, losses.rolling(at_least("window", window, 1)).mean())

    def loss_table(self, window: int = 1) -> pd.DataFrame:
        """Training losses of all runs, for figures.

        Args:
            window: steps whose mean each entry is.

        Returns:
            Columns `condition`, `seed`, `step` (the last of the window) and `loss` in nats.
        """
        parts: list[pd.DataFrame] = []
        for condition, by_seed in self.runs.items():
            for seed in by_seed:
                part = self.losses(condition, seed, window).dropna().reset_index()
                part.insert(0, "condition", condition)
                part.insert(1, "seed", seed)
                parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def learning_times(self, threshold: float, *, window: int = 20) -> pd.DataFrame:
        """When the training loss first lay below a threshold.

        Args:
            threshold: in nats; Singh et al. use 0.4 log 2 where guessing among two gives log 2.
            window: steps whose mean counts, so that one lucky batch does not.

        Returns:
            Columns `condition`, `seed`, `step` (updates before the window's end; NaN if never), and `tokens_elapsed`.
        """
        rows = []
        for condition, by_seed in self.runs.items():
            for seed, run in by_seed.items():
                losses = self.losses(condition, seed, window).to_numpy()
                below = np.flatnonzero(losses < threshold)
                step = float(below[0] + 1) if len(below) else np.nan
                tokens = step * run.manifest["tokens_per_step"]
                rows.append({"condition": condition, "seed": seed, "step": step, "tokens_elapsed": tokens})
        return pd.DataFrame(rows)


def train_conditions(
    cfg: HookedTransformerConfig,
    corpus: Tensor | Corpus,
    config: TrainConfig,
    conditions: Mapping[str, Clamps],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    smeared_keys: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> ConditionRuns:
    """Train one model under several clamps and from several seeds, each into `out`/condition_seedN.

    All conditions of a seed begin with the same weights and see the same examples in the same order, so that they
    differ in the clamps alone. What was trained before is not trained again.

    Args:
        cfg: the model's configuration.
        corpus: what is trained on.
        config: of the training; its `seed` is replaced.
        conditions: clamps by name; an empty list is the free training.
        out: folder of the runs.
        seeds: of the weights.
        smeared_keys: whether the model smears its keys.
        workers: trainings side by side; see `train_series`.
        progress: show how far each training is, if this is a terminal or a notebook.

    Raises:
        InputError: if there is no condition or no seed, or one twice.

    Examples:
        >>> conditions = {"free": [], "previous token": PreviousToken("L0H0")}
        >>> train_conditions(cfg, RestartCycle(), config, conditions, out="runs", seeds=(0, 1, 2), workers=2)
    """
    if not conditions or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"expected conditions and different seeds, got {list(conditions)} and {list(seeds)}")
    names = {(name, seed): f"{_folder(name)}_seed{seed}" for name in conditions for seed in seeds}
    runs = train_series(
        [ModelSpec(name, cfg, smeared_keys) for name in names.values()],
        corpus,
        {names[pair]: replace(config, seed=pair[1]) for pair in names},
        out=out,
        clamps={names[name, seed]: clamps for name, clamps in conditions.items() for seed in seeds},
        workers=workers,
        progress=progress,
    )
    found = dict(zip(names, runs, strict=True))
    return ConditionRuns({name: {seed: found[name, seed] for seed in seeds} for name in conditions})


def _folder(name: str) -> str:
    """A condition's name as part of a folder's."""
    return "".join(letter if letter.isalnum() or letter in "+-." else "_" for letter in name)
