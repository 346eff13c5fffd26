"""Trajectories of models in the space of their per-token losses: one principal component analysis for all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float
from sklearn.decomposition import PCA

from ih_lens.errors import FingerprintError, InputError
from ih_lens.results import TokenLosses, check_same_examples
from ih_lens.validate import at_least

MIN_SNAPSHOTS = 3
"""Two points lie on a line: with fewer than three snapshots there is no plane to look at."""


@dataclass(frozen=True)
class TokenLossPCA:
    """The result of `token_loss_pca`.

    Attributes:
        projections: one [snapshot, component] per model given, in its order, in nats (length in the space whose
            axes are the examples' losses); step and tokens_elapsed label the snapshots.
        explained_variance_ratio: [component], share of the variance of all snapshots of all models.
        components: [component, example], orthonormal.
        mean: [example], mean losses over all snapshots, in nats.
        fingerprint: of the evaluation set.
    """

    projections: tuple[xr.DataArray, ...]
    explained_variance_ratio: Float[np.ndarray, "component"]
    components: Float[np.ndarray, "component example"]
    mean: Float[np.ndarray, "example"]
    fingerprint: str

    def project(self, losses: TokenLosses) -> xr.DataArray:
        """Place further losses, such as those of another model or of an ablation, in the same space.

        Args:
            losses: on the same examples, with any leading dimensions.

        Returns:
            [..., component] in nats.

        Raises:
            FingerprintError: if the losses were measured on other examples.
        """
        if losses.fingerprint != self.fingerprint:
            raise FingerprintError(
                f"these losses belong to the examples {losses.fingerprint}, the fit to {self.fingerprint}; "
                "measure both on one EvalSet"
            )
        return _project(losses.random_token, self.components, self.mean)


def token_loss_pca(models: Sequence[TokenLosses | Sequence[TokenLosses]], *, n_components: int = 2) -> TokenLossPCA:
    """Fit principal components to the random-token losses of all snapshots of all models together.

    The matrix [snapshots of all models, example] is centred, not standardised, and decomposed in full, without
    randomness. Each component has the sign that makes its entry of largest magnitude positive.

    Args:
        models: per model its losses stacked over snapshots, or a list of the losses of single snapshots.
        n_components: number of components kept.

    Returns:
        A `TokenLossPCA`; `projections` has one entry per model.

    Raises:
        FingerprintError: if the losses were measured on different examples.
        InputError: if there are fewer than three snapshots in all, or than components, or a loss is not finite.

    Examples:
        >>> pca = token_loss_pca([losses_1L, losses_2L])
        >>> pca.projections[1].dims, pca.explained_variance_ratio.shape
        (('snapshot', 'component'), (2,))

    The paper's joint PCA (Analyses, Per-token losses).
    """
    paths = [_path(model) for model in models]
    flat = [losses for model in models for losses in ([model] if isinstance(model, TokenLosses) else model)]
    check_same_examples(*flat)
    if sum(path.sizes["snapshot"] for path in paths) < MIN_SNAPSHOTS:
        raise InputError(
            f"expected at least {MIN_SNAPSHOTS} snapshots in all, got {[path.sizes['snapshot'] for path in paths]} "
            "per model; stack the snapshots of each model with stack_snapshots"
        )
    matrix = np.concatenate([path.to_numpy() for path in paths])
    _check_matrix(matrix, at_least("n_components", n_components, 1))
    fit = PCA(n_components, svd_solver="full").fit(matrix)
    axes, mean = np.asarray(fit.components_), np.asarray(fit.mean_)
    components = axes * _signs(axes)[:, None]
    projections = tuple(_project(path, components, mean) for path in paths)
    return TokenLossPCA(projections, fit.explained_variance_ratio_, components, mean, flat[0].fingerprint)


def _path(model: TokenLosses | Sequence[TokenLosses]) -> xr.DataArray:
    """One model's random-token losses in double precision, [snapshot, example]."""
    if not isinstance(model, TokenLosses) and not model:
        raise InputError("a model without snapshots cannot be placed; leave it out")
    if isinstance(model, TokenLosses):
        losses = model.random_token
        losses = losses.expand_dims("snapshot") if losses.dims == ("example",) else losses
    else:
        losses = xr.concat([snapshot.random_token for snapshot in model], dim="snapshot")
    if losses.dims != ("snapshot", "example"):
        raise InputError(
            f"expected losses of models as they are, [snapshot, example], got dimensions {losses.dims}; "
            "use TokenLossPCA.project to place ablations in a fitted space"
        )
    return losses.astype(np.float64)


def _check_matrix(matrix: Float[np.ndarray, "snapshot example"], n_components: int) -> None:
    """Refuse what has no principal components, or not that many."""
    if not np.isfinite(matrix).all():
        raise InputError("the losses hold NaN or infinity; leave such snapshots out")
    if n_components > min(matrix.shape):
        raise InputError(
            f"n_components: {matrix.shape[0]} snapshots of {matrix.shape[1]} examples have at most "
            f"{min(matrix.shape)} components, got {n_components}"
        )
    if (matrix == matrix[0]).all():
        raise InputError("all snapshots have the same losses, so there is no direction of change; pass trained ones")


def _signs(components: Float[np.ndarray, "component example"]) -> Float[np.ndarray, "component"]:
    """The sign of each component's entry of largest magnitude."""
    largest = np.abs(components).argmax(axis=1)
    return np.sign(components[np.arange(len(components)), largest])


def _project(
    losses: xr.DataArray, components: Float[np.ndarray, "component example"], mean: Float[np.ndarray, "example"]
) -> xr.DataArray:
    """Losses [..., example] as points [..., component], in nats."""
    axes = xr.DataArray(components, dims=("component", "example"))
    centred = losses.astype(np.float64) - xr.DataArray(mean, dims="example")
    points = xr.dot(centred, axes, dim="example").transpose(..., "component")
    attributes = {"definition": "random-token losses on joint principal components, centred", "unit": "nats"}
    return points.rename("token_loss_pca").assign_attrs(attributes)
