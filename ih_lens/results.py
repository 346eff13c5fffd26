"""Labelled, frozen results: xarray inside, tensors and data frames at the edge, provenance in the attributes.

Measuring code produces plain tensors and labels them here, once; analyses and figures take these objects
and never see a model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from ih_lens.atomic import to_json_bytes, write_bytes
from ih_lens.errors import DamagedFileError, FingerprintError, InputError
from ih_lens.estimates import N_RESAMPLES, Estimate, NullScores
from ih_lens.head_spread import HeadSpread, are_of_heads, dataset_from_dict, dataset_to_dict
from ih_lens.reading import read_json, shown
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import at_least, head_index

SCORES_FORMAT, SCORES_VERSION = "ih_lens head scores", 2
"""What the file of `HeadScores.save` begins with; version 1 had no spread over examples and is still read."""

Provenance = Mapping[str, Any]
Losses = TypeVar("Losses", bound="TokenLosses")
Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


def json_safe(provenance: Provenance) -> dict[str, Any]:
    """Provenance as attributes that every file format keeps: numbers and text, the rest as JSON text."""
    return {
        name: value if isinstance(value, (str, int, float)) else json.dumps(value, default=str, sort_keys=True)
        for name, value in provenance.items()
        if value is not None
    }


def _finite_or_none(value: Any) -> Any:
    """The same with None for NaN, which is no JSON."""
    if isinstance(value, dict):
        return {name: _finite_or_none(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def to_numpy(values: Tensor) -> npt.NDArray[Any]:
    """A detached CPU copy; bfloat16, which NumPy lacks, becomes float32."""
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


@dataclass(frozen=True)
class HeadScores:
    """One number per head for each of several measures.

    Attributes:
        dataset: one variable per measure with dimensions (layer, head), or (snapshot, layer, head) where
            snapshots were stacked; each variable's attributes say its definition and range. NaN means that
            the measure is not defined for that head.
        spread: the spread of each measure over examples; None where it was not measured.

    Examples:
        >>> scores = HeadScores.from_tensors({"prefix_matching": torch.tensor([[0.25, 0.75]])})
        >>> scores.top("prefix_matching", 1)
        [(L0H1, 0.75)]
    """

    dataset: xr.Dataset
    spread: HeadSpread | None = None

    @classmethod
    def from_tensors(
        cls,
        scores: Mapping[str, Float[Tensor, "layer head"]],
        *,
        provenance: Provenance | None = None,
        attributes: Mapping[str, Provenance] | None = None,
        spread: HeadSpread | None = None,
    ) -> "HeadScores":
        """Label tensors of one shape; `attributes` describe single measures, `provenance` all of them."""
        variables = {
            name: (("layer", "head"), to_numpy(values), json_safe((attributes or {}).get(name, {})))
            for name, values in scores.items()
        }
        n_layers, n_heads = next(iter(scores.values())).shape
        coordinates = {"layer": np.arange(n_layers), "head": np.arange(n_heads)}
        return cls(xr.Dataset(variables, coordinates, json_safe(provenance or {})), spread)

    @property
    def names(self) -> list[str]:
        """The measures that were taken."""
        return [str(name) for name in self.dataset.data_vars]

    @property
    def attrs(self) -> dict[str, Any]:
        """Provenance of all measures."""
        return dict(self.dataset.attrs)

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self.dataset.data_vars:
            raise InputError(f"no measure {name!r} in these scores; there are {', '.join(self.names)}")
        return self.dataset[name]

    def head(self, head: HeadSpelling) -> dict[str, float]:
        """All measures of one head of unstacked scores."""
        index = head_index(head, self.dataset.sizes["layer"], self.dataset.sizes["head"])
        return {name: float(self._grid(name)[index]) for name in self.names}

    def top(self, name: str, k: int = 5) -> list[tuple[HeadIndex, float]]:
        """The k heads with the highest score, best first; heads where it is not defined are left out."""
        grid = self._grid(name)
        best = np.argsort(-grid, axis=None, kind="stable")[: at_least("k", k, 1)]
        pairs = [(HeadIndex(*map(int, np.unravel_index(place, grid.shape))), grid.flat[place]) for place in best]
        return [(head, float(score)) for head, score in pairs if np.isfinite(score)]

    def estimate(self, name: str) -> Estimate:
        """One measure with its spread over examples: what intervals and p-values are made from.

        Measures of weights have no examples; all of their spread is NaN, with the reason in `.undefined`.

        Raises:
            InputError: if no spread was kept: in files of older versions, entries of a table's store, and single
                snapshots taken out of `.dataset`.
        """
        if self.spread is None:
            raise InputError(f"{name!r}: these scores were kept without their spread; measure with score_heads again")
        return self.spread.estimate(self[name])

    def stderr(self, name: str) -> xr.DataArray:
        """Standard error of the mean over examples, of the dimensions of the measure; errors as `estimate`.

        Examples:
            >>> scores.stderr("prefix_matching").sel(layer=5, head=1).item()
            0.004
        """
        return self.estimate(name).stderr

    def confidence_interval(
        self,
        name: str,
        level: float = 0.95,
        *,
        method: str = "bootstrap",
        n_resamples: int = N_RESAMPLES,
        seed: int = 0,
    ) -> xr.DataArray:
        """Interval of each head's score over examples, [..., bound]; see `Estimate.confidence_interval`."""
        return self.estimate(name).confidence_interval(level, method=method, n_resamples=n_resamples, seed=seed)

    def p_value(
        self,
        name: str,
        null: float | NullScores,
        *,
        alternative: str | None = None,
        pool: str | None = None,
        method: str = "t",
    ) -> xr.DataArray:
        """How likely each head's score would be by chance.

        Args:
            name: the measure.
            null: `null_scores(model, ...)`: then (1 + draws at least as extreme) / (1 + draws); or a number, against
                which the spread over examples is tested.
            alternative: "greater", "less" or "two-sided"; by default two-sided for measures with a sign (and those
                without a range), else greater.
            pool: whose draws are taken together, "layer", "model" or "head"; see `NullScores.pooled`.
            method: "t" or "sign_flip" against a number; see `Estimate.p_value`.

        Examples:
            >>> scores.p_value("prefix_matching", null_scores(model, kind="random_weights")).sel(layer=5, head=1).item()
            0.004
        """
        lowest, _ = json.loads(self[name].attrs.get("range", "[-1, 1]"))
        chosen = alternative or ("two-sided" if lowest < 0 else "greater")
        if isinstance(null, NullScores):
            alone = Estimate(self[name], xr.full_like(self[name], np.nan), 0)  # nothing of the spread is needed
            found = alone.p_value(null.pooled(name, pool), alternative=chosen)
            about = {
                "measure": name,
                "null": str(null.attrs.get("kind")),
                "pool": pool or null.pool,
                "n_draws": null.n_draws,
            }
            return found.assign_attrs(about)
        return self.estimate(name).p_value(null, alternative=chosen, method=method).assign_attrs(measure=name)

    def to_tensor(self, name: str) -> Float[Tensor, "*snapshot layer head"]:
        """One measure as a plain tensor."""
        return torch.as_tensor(self[name].to_numpy().copy(), device="cpu")

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head (and snapshot), one column per measure."""
        return self.dataset.to_dataframe().reset_index()

    def save(self, path: str | Path) -> Path:
        """Write all scores with their labels, definitions and provenance as one JSON file, in one step.

        Examples:
            >>> scores.save("scores.json")
            PosixPath('scores.json')
        """
        spread = {} if self.spread is None else {"spread": self.spread.to_dict()}
        content = {"format": SCORES_FORMAT, "version": SCORES_VERSION, "dataset": dataset_to_dict(self.dataset)}
        write_bytes(Path(path), to_json_bytes(_finite_or_none({**content, **spread})))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "HeadScores":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: if there is no such file, or it holds something else.
        """
        read = read_json(Path(path))
        try:
            if read["format"] != SCORES_FORMAT or read["version"] not in range(1, SCORES_VERSION + 1):
                raise ValueError("another format or version")
            spread = HeadSpread.from_dict(read["spread"]) if "spread" in read else None
            scores = cls(dataset_from_dict(read["dataset"]), spread)
            if not are_of_heads(scores.dataset, scores.spread):
                raise ValueError("its measures are not of the same layers and heads")
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise DamagedFileError(
                f"{path} holds no head scores of this version ({shown(error)}); write it again with save()"
            ) from error
        return scores

    def _grid(self, name: str) -> npt.NDArray[Any]:
        values = self[name]
        if values.ndim != 2:
            raise InputError(f"these scores are stacked over {values.dims[0]}; choose one with .dataset.isel first")
        return values.to_numpy()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)}; {dict(self.dataset.sizes)})"

    def _repr_html_(self) -> str:
        return self.dataset._repr_html_()  # pyright: ignore[reportPrivateUsage] Jupyter calls it so


@dataclass(frozen=True)
class TokenLosses:
    """Per-token losses in nats, kept as the views that the analyses need.

    `context_index` i labels the predicted token, zero-based in what the model sees: the loss at i is
    -log p(t_i | t_0..t_{i-1}).

    Attributes:
        dataset: `random_token` [..., example], the loss at one fixed random index of each example;
            `by_context_index` [..., context_index], means over examples; `at_indices` [..., example, at_index],
            each example's loss at chosen indices (means over `window` indices to both sides); `full`
            [..., example, context_index] only where it was asked for. Leading dimensions are (snapshot) where
            snapshots were stacked and (layer, head) or (group) after ablations.
    """

    dataset: xr.Dataset

    @classmethod
    def from_tensors(
        cls: type[Losses],
        views: Mapping[str, Tensor],
        *,
        leading: Mapping[str, Sequence[Any]] | None = None,
        random_index: Sequence[int] | Tensor,
        by_context_index: Sequence[int],
        at_indices: Sequence[int],
        provenance: Provenance,
    ) -> Losses:
        """Label the views: `leading` names the leading dimensions, the rest are the coordinates of each view."""
        leading = dict(leading or {})
        own = {
            "random_token": ("example",),
            "by_context_index": ("context_index",),
            "at_indices": ("example", "at_index"),
            "full": ("example", "context_index"),
        }
        variables = {name: ((*leading, *own[name]), to_numpy(values)) for name, values in views.items()}
        coordinates = {
            **{name: list(values) for name, values in leading.items()},
            "context_index": list(by_context_index),
            "at_index": list(at_indices),
            "random_index": ("example", np.asarray(random_index)),
        }
        return cls(xr.Dataset(variables, coordinates, json_safe({"unit": "nats", **provenance})))

    @property
    def random_token(self) -> xr.DataArray:
        """Loss at the random index of each example, [..., example]."""
        return self._view("random_token")

    @property
    def by_context_index(self) -> xr.DataArray:
        """Mean loss over examples per context index, [..., context_index]."""
        return self._view("by_context_index")

    @property
    def at_indices(self) -> xr.DataArray:
        """Each example's loss at the chosen indices, [..., example, at_index]."""
        return self._view("at_indices")

    @property
    def full(self) -> xr.DataArray:
        """Every loss, [..., example, context_index]; kept only with keep="all"."""
        return self._view("full")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the evaluation set."""
        return str(self.dataset.attrs["fingerprint"])

    @property
    def attrs(self) -> dict[str, Any]:
        """Provenance."""
        return dict(self.dataset.attrs)

    def _view(self, name: str) -> xr.DataArray:
        if name not in self.dataset.data_vars:
            raise InputError(f'the view {name!r} was not kept; measure again with keep="all" or these indices')
        return self.dataset[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.dataset.data_vars))}; {dict(self.dataset.sizes)})"

    def _repr_html_(self) -> str:
        return self.dataset._repr_html_()  # pyright: ignore[reportPrivateUsage] Jupyter calls it so


@dataclass(frozen=True, repr=False)
class AblationLosses(TokenLosses):
    """Losses after ablating heads: leading dimensions (layer, head), or (group) for heads ablated together.

    Heads of the (layer, head) grid that were not asked for are NaN; groups are labelled like "L1H0+L1H3".
    `attrs` holds `kind` ("full" or "pattern_preserving") and `replace`.
    """


Result = TypeVar("Result", HeadScores, TokenLosses, AblationLosses)


def check_same_examples(*results: TokenLosses) -> None:
    """Refuse to combine losses that were measured on different examples.

    Raises:
        FingerprintError: if the evaluation sets differ.
    """
    found = {result.fingerprint for result in results}
    if len(found) > 1:
        raise FingerprintError(
            f"these losses were measured on different examples ({', '.join(sorted(found))}); "
            "measure all of them on one EvalSet"
        )


def stack_snapshots(results: Sequence[Result], steps: Sequence[int], tokens_elapsed: Sequence[int]) -> Result:
    """Join results of one kind over training: a leading dimension `snapshot` with its step and tokens.

    Args:
        results: scores or losses, one per snapshot, in the order of training.
        steps: optimiser steps at each.
        tokens_elapsed: training tokens seen at each.

    Raises:
        FingerprintError: if losses were measured on different examples.
        InputError: if the lengths differ or nothing is given.

    Examples:
        >>> stack_snapshots([start, end], steps=[0, 100], tokens_elapsed=[0, 51_200]).random_token.dims
        ('snapshot', 'example')
    """
    if not results or not len(results) == len(steps) == len(tokens_elapsed):
        raise InputError(
            f"expected one step and one token count per result, got {len(results)} results, {len(steps)} steps, "
            f"{len(tokens_elapsed)} token counts"
        )
    losses = [result for result in results if isinstance(result, TokenLosses)]
    check_same_examples(*losses)
    joined = xr.concat([result.dataset for result in results], dim="snapshot", combine_attrs="drop_conflicts")
    stacked = type(results[0])(label_snapshots(joined, steps, tokens_elapsed))
    spreads = [result.spread for result in results if isinstance(result, HeadScores) and result.spread is not None]
    if isinstance(stacked, HeadScores) and len(spreads) == len(results):
        return replace(stacked, spread=HeadSpread.stacked(spreads))
    return stacked


def label_snapshots(joined: Labelled, steps: Sequence[int], tokens_elapsed: Sequence[int]) -> Labelled:
    """Give the dimension `snapshot` its coordinates `step` and `tokens_elapsed`."""
    labels = {"step": ("snapshot", list(steps)), "tokens_elapsed": ("snapshot", list(tokens_elapsed))}
    return joined.assign_coords(labels)
