"""Means over examples that know their spread, and null distributions to compare them with."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ih_lens.errors import InputError
from ih_lens.statistics import (
    METHODS,
    bootstrap_interval,
    fraction,
    p_value_among,
    sign_flip_p_value,
    standard_error,
    t_interval,
    t_p_value,
)
from ih_lens.validate import one_of

N_RESAMPLES = 4000
ONE_EXAMPLE = "a single example has no spread; measure more of them"
POOLS = ("layer", "model", "head")


@dataclass(frozen=True)
class Estimate:
    """Means over examples with their spread: scores, losses or differences of losses, one per head or group.

    Attributes:
        value: the means, [layer, head], [group], [snapshot, ...] or a single one.
        stderr: their standard errors, that is the standard deviation over examples / sqrt(n_examples).
        n_examples: how many examples each mean is over.
        examples: what each example gave, [example, ...]; None where this was not kept.
        undefined: why there is no spread, where there is none: every interval and p-value is then NaN.

    Examples:
        >>> effect = ablation_effects(ablated, losses)
        >>> effect.value.sel(layer=1, head=4).item(), effect.stderr.sel(layer=1, head=4).item()
        (0.31, 0.02)
        >>> effect.p_value(0.0).min().item()
        0.0003
    """

    value: xr.DataArray
    stderr: xr.DataArray
    n_examples: int
    examples: xr.DataArray | None = None
    undefined: str | None = None

    @classmethod
    def from_examples(cls, examples: xr.DataArray, *, attrs: Mapping[Hashable, Any] | None = None) -> "Estimate":
        """From one number per example, [..., example]; paired differences are such numbers too.

        Examples that are NaN everywhere are left out; where only some numbers are NaN, so are mean and spread.

        Args:
            examples: the numbers, with a dimension `example`.
            attrs: of the mean; those of `examples` by default.

        Raises:
            InputError: if there is no dimension `example`.
        """
        if "example" not in examples.dims:
            raise InputError(f"examples: expected a dimension 'example', got {list(examples.dims)}")
        attributes = dict(examples.attrs if attrs is None else attrs)
        kept = defined_examples(examples.astype(np.float64))
        value = kept.mean("example", skipna=False).assign_attrs(attributes)
        n_examples = kept.sizes["example"]
        errors = standard_error(kept.to_numpy())
        stderr = xr.DataArray(errors, value.coords, value.dims, "stderr", {"n_examples": n_examples})
        return cls(value, stderr, n_examples, kept, ONE_EXAMPLE if n_examples == 1 else None)

    def confidence_interval(
        self, level: float = 0.95, *, method: str = "bootstrap", n_resamples: int = N_RESAMPLES, seed: int = 0
    ) -> xr.DataArray:
        """Where the mean over all possible examples lies, at a level.

        Args:
            level: in which share of repetitions the interval should hold the true mean.
            method: "bootstrap" resamples examples and studentises, which holds its level at ten examples and for
                skewed scores (infinite where so many examples are equal that resamples have no spread); "t" is
                Student's, exact for normally distributed examples, and needs no single examples; "bca" and
                "percentile" are bootstraps that need some thirty examples to hold their level.
            n_resamples: of the bootstraps.
            seed: of the bootstraps; the order of examples does not matter.

        Returns:
            [..., bound] with bound "low" and "high", in the unit of the value; NaN where that is, or has no spread.

        Raises:
            InputError: if single examples are needed and were not kept, or are too few for the method.

        Examples:
            >>> effect.confidence_interval(0.9).sel(bound="low")
        """
        fraction("level", level)
        one_of("method", method, METHODS)
        if self.undefined is not None:
            bounds = np.full((2, *self.value.shape), np.nan)
        elif method == "t":
            bounds = t_interval(self._values, self.stderr.to_numpy(), self.n_examples, level)
        else:
            bounds = bootstrap_interval(
                self._kept(method).to_numpy(), level=level, method=method, n_resamples=n_resamples, seed=seed
            )
        return self._interval(bounds, {"level": level, "method": method, "seed": seed})

    def p_value(
        self,
        null: float | xr.DataArray = 0.0,
        *,
        alternative: str = "two-sided",
        method: str = "t",
        n_resamples: int = N_RESAMPLES,
        seed: int = 0,
    ) -> xr.DataArray:
        """How likely a value at least as extreme would be if the null held.

        Args:
            null: a number that the true mean may have; or draws from a null distribution, [draw, ...] with
                dimensions of the value beside (as `NullScores.pooled` gives): then the p-value is
                (1 + number of draws at least as extreme) / (1 + draws).
            alternative: "two-sided", "greater" or "less" than the null. Two-sided against draws is twice the smaller
                side, at most 1.
            method: against a number: "t" (Student's) or "sign_flip" (signs of the examples' differences from it are
                turned at random, exactly so for up to 12 examples; exact where they are symmetric).
            n_resamples: of sign flips.
            seed: of sign flips.

        Returns:
            Over the dimensions of the value; NaN where the value is, or against a number where it has no spread.

        Raises:
            InputError: if the null has no draws or other dimensions, or single examples are needed and were not kept.

        Examples:
            >>> scores.estimate("copying").p_value(0.0)
        """
        if isinstance(null, xr.DataArray):
            return self._label(self._among(null, alternative), {"null": "draws", "alternative": alternative})
        one_of("method", method, ("t", "sign_flip"))
        if self.undefined is not None:
            found = np.full(self.value.shape, np.nan)
        elif method == "t":
            found = t_p_value(self._values, self.stderr.to_numpy(), self.n_examples, null, alternative)
        else:
            examples = self._kept(method).to_numpy()
            found = sign_flip_p_value(examples, null, alternative, n_resamples=n_resamples, seed=seed)
        return self._label(found, {"null": null, "alternative": alternative, "method": method})

    @property
    def _values(self) -> Any:
        return self.value.to_numpy().astype(np.float64)

    def _kept(self, method: str) -> xr.DataArray:
        """Single examples, first axis."""
        if self.examples is None:
            raise InputError(
                f"method={method!r} needs what each example gave, and only means and standard errors were kept; "
                "measure with keep_examples=True, or use method='t'"
            )
        return self.examples.transpose("example", *self.value.dims)

    def _among(self, null: xr.DataArray, alternative: str) -> Any:
        """P-values against draws that are shared by all entries along the dimensions that the draws lack."""
        shared = [dim for dim in self.value.dims if dim in null.dims]
        if "draw" not in null.dims or set(null.dims) - {"draw", *shared}:
            raise InputError(
                f"null: expected a dimension 'draw' and none that the value lacks, got {list(null.dims)} for a value "
                f"over {list(self.value.dims)}"
            )
        if any(null.sizes[dim] != self.value.sizes[dim] for dim in shared):
            raise InputError(
                f"null: its sizes {dict(null.sizes)} do not fit those of the value, {dict(self.value.sizes)}; "
                "draw it from a model of the same architecture"
            )
        own = [dim for dim in self.value.dims if dim not in shared]
        ordered = self.value.transpose(*shared, *own)
        n_shared = int(np.prod([null.sizes[dim] for dim in shared], dtype=np.int64))
        observed = ordered.to_numpy().astype(np.float64).reshape(n_shared, -1)
        draws = null.transpose("draw", *shared).to_numpy().astype(np.float64).reshape(-1, n_shared)
        found = p_value_among(observed, draws, alternative).reshape(ordered.shape)
        return ordered.copy(data=found).transpose(*self.value.dims).to_numpy()

    def _label(self, found: Any, settings: dict[str, Any]) -> xr.DataArray:
        labelled = self.value.copy(data=np.asarray(found)).rename("p_value")
        return labelled.assign_attrs({**settings, **self._why})

    def _interval(self, bounds: Any, settings: dict[str, Any]) -> xr.DataArray:
        both = xr.concat([self.value.copy(data=bound) for bound in bounds], dim="bound")
        labelled = both.assign_coords(bound=["low", "high"]).transpose(..., "bound").rename("confidence_interval")
        return labelled.assign_attrs({**self.value.attrs, **settings, **self._why})

    @property
    def _why(self) -> dict[str, str]:
        return {} if self.undefined is None else {"undefined": self.undefined}


def defined_examples(examples: xr.DataArray) -> xr.DataArray:
    """[example, ...] without the examples that are NaN everywhere; all of them if none is anything else."""
    ordered = examples.transpose("example", ...)
    is_defined = ordered.notnull().to_numpy().reshape(ordered.sizes["example"], -1).any(axis=1)
    return ordered.isel(example=is_defined) if is_defined.any() else ordered


@dataclass(frozen=True)
class NullScores:
    """Scores of heads where there is nothing to find: the same architecture or tokens, with what matters at random.

    Attributes:
        dataset: one variable per measure, [draw, layer, head]; the attributes say how each was drawn (`kind`). NaN,
            with the reason in the attribute `undefined`, where a measure has no such null.

    Examples:
        >>> null = null_scores(model, kind="random_weights", n_draws=20)
        >>> scores.p_value("prefix_matching", null)
    """

    dataset: xr.Dataset

    @property
    def names(self) -> list[str]:
        """The measures that were drawn."""
        return [str(name) for name in self.dataset.data_vars]

    @property
    def n_draws(self) -> int:
        """How many times every head was drawn."""
        return self.dataset.sizes["draw"]

    @property
    def attrs(self) -> dict[str, Any]:
        """How they were drawn."""
        return dict(self.dataset.attrs)

    @property
    def pool(self) -> str:
        """Whose draws are taken together unless something else is asked for; see `pooled`."""
        return "head" if self.attrs.get("kind") == "shuffled_tokens" else "layer"

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self.dataset.data_vars:
            raise InputError(f"no measure {name!r} in this null; there are {', '.join(self.names)}")
        return self.dataset[name]

    def pooled(self, name: str, pool: str | None = None) -> xr.DataArray:
        """The draws of one measure, those of several heads taken together.

        Args:
            name: the measure.
            pool: "layer" takes the heads of a layer as draws from one distribution, which for random weights they are;
                "model" those of all layers; "head" keeps every head's own `n_draws`. By default "head" where the
                heads are those of the model itself (kind "shuffled_tokens"), else "layer".

        Returns:
            [draw, layer], [draw] or [draw, layer, head].
        """
        values = self[name]
        chosen = one_of("pool", self.pool if pool is None else pool, POOLS)
        pooled = {"layer": ("head",), "model": ("layer", "head"), "head": ()}[chosen]
        stacked = values.transpose("draw", *pooled, ...)
        rest = stacked.dims[1 + len(pooled) :]
        numbers = stacked.to_numpy().reshape(-1, *(stacked.sizes[dim] for dim in rest))
        return xr.DataArray(numbers, dims=("draw", *rest), name=name, attrs=values.attrs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)}; {dict(self.dataset.sizes)})"
