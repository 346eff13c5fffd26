"""What a result must say about its origin, so that a number can be traced and repeated."""

from typing import Any

from ih_lens.models.files import version_of
from ih_lens.models.origin import origin_of
from ih_lens.models.smeared_keys import has_smeared_keys
from ih_lens.types import ModelLike

_LIBRARIES = ("ih-lens", "torch", "transformer-lens")


def provenance(model: ModelLike, **parameters: Any) -> dict[str, Any]:
    """Model, weight processing, conventions, versions and the parameters of one measurement.

    Args:
        model: the measured model.
        **parameters: whatever the measurement depends on (seed, bos, fingerprint, definition, ...); they stand
            beside the rest, and one named like an entry below replaces it (`model="runs/2L/step_100"` where a
            more exact reference is known than the configuration's `model_name`).

    Returns:
        A dictionary for the `provenance` argument of the results, with `model` (the repository, folder or class
        where the model was loaded by this library), `source`, `revision` and `commit` ("" where unknown),
        `processed` (folded and centred on loading), `dtype`, `normalization` (as
        TransformerLens names it: "LN", "LNPre", "RMS", "RMSPre", "none"), `folded` (LayerNorm's weights are in
        the matrices that read from it), `positions`, `smeared_keys`, `index_base` (always 0), the version of each
        library, and the parameters.

    Examples:
        >>> provenance(model, seed=0)["folded"]
        False
    """
    cfg, origin = model.cfg, origin_of(model)
    normalization = cfg.normalization_type or "none"
    return {
        "model": cfg.model_name if origin is None else origin.name,
        "source": "" if origin is None else origin.source,
        "revision": "" if origin is None else origin.revision or "",
        "commit": "" if origin is None else origin.commit or "",
        "processed": origin is not None and origin.processed,
        "dtype": str(cfg.dtype).removeprefix("torch."),
        "normalization": normalization,
        "folded": normalization.endswith("Pre"),
        "positions": cfg.positional_embedding_type,
        "smeared_keys": has_smeared_keys(model),
        "index_base": 0,
        **{f"{library.replace('-', '_')}_version": version_of(library) for library in _LIBRARIES},
        **parameters,
    }
