"""Made-up results of the loss split, of loops and of repetition, with shapes like those of small models."""

import numpy as np
import xarray as xr

import ih_lens as ih
from tests.viz import realistic

_CLASSES = {"predictable": (0.55, -1.6), "mispredicted": (0.15, 0.7), "unmatched": (0.3, 0.05)}


def _over_training(end: float, seed: int) -> xr.DataArray:
    """Per example: an abrupt change in the middle of training, in the logarithm."""
    elapsed = realistic.tokens()
    learned = 1 / (1 + np.exp(-12 * np.log(np.maximum(elapsed, 1) / 3.5e9)))
    values = end * learned + np.random.default_rng(seed).normal(0, 0.3, (60, len(elapsed)))
    labels = {"tokens_elapsed": ("snapshot", elapsed), "step": ("snapshot", elapsed // 65536)}
    return xr.DataArray(values, labels, ("example", "snapshot"))


def loss_split(seed: int = 0) -> ih.Estimate:
    """Losses of three classes of tokens over training."""
    parts = [_over_training(change, seed + place) + 3.2 for place, (_, change) in enumerate(_CLASSES.values())]
    joined = xr.concat(parts, dim="token_class").assign_coords(token_class=list(_CLASSES))
    shares = ("token_class", [share for share, _ in _CLASSES.values()])
    return ih.Estimate.from_examples(joined.assign_coords(share=shares).transpose("example", "snapshot", "token_class"))


def score_parts() -> ih.Estimate:
    """Parts of an in-context learning score over training."""
    ends = {"predictable": -0.2, "mispredicted": 0.1, "unmatched": 0.0, "changing shares": -1.4}
    parts = [_over_training(change, place) for place, change in enumerate(ends.values())]
    joined = xr.concat(parts, dim="part").assign_coords(part=list(ends))
    return ih.Estimate.from_examples(joined.transpose("example", "snapshot", "part"))


def spiked_curve() -> xr.DataArray:
    """A loss curve with two spikes."""
    snapshot = np.arange(60)
    values = 3.5 - 0.8 / (1 + np.exp(-(snapshot - 25) / 1.5)) - 0.01 * snapshot
    values += np.random.default_rng(0).normal(0, 0.01, 60)
    values[40:43] += [0.3, 0.6, 0.2]
    values[55] += 0.2
    labels = {"step": ("snapshot", 10 * snapshot), "tokens_elapsed": ("snapshot", 10**6 * snapshot)}
    return xr.DataArray(values, labels, ("snapshot",))


def loops(n_examples: int = 40, n_tokens: int = 50) -> xr.Dataset:
    """Generations that loop early, late or never."""
    generator = np.random.default_rng(0)
    rates = {"whole model": 0.1, "without the heads": 0.01, "without L1H0+L1H3": 0.09, "without L0H2+L1H1": 0.07}
    begun = np.stack([generator.geometric(rate, n_examples) for rate in rates.values()]).astype(float)
    begun[begun > n_tokens - 9] = np.nan
    in_loop = np.where(np.isnan(begun), 0.0, 1 - begun / n_tokens)
    dims = ("condition", "example")
    variables = {
        "in_loop": (dims, in_loop),
        "time_to_loop": (dims, begun),
        "period": (dims, np.where(np.isnan(begun), 0, 3)),
        "distinct": ((*dims, "n"), np.stack([1 - 0.8 * in_loop, 1 - 0.7 * in_loop], axis=-1)),
    }
    return xr.Dataset(variables, {"condition": list(rates), "n": [1, 2]}, {"n_tokens": n_tokens, "heads": "L1H1+L1H2"})


def dominance(n_layers: int = 4, n_heads: int = 4) -> xr.Dataset:
    """Two heads that copy what was repeated, among others that do not."""
    generator, repetitions = np.random.default_rng(0), np.arange(7)
    strength = generator.normal(0, 0.01, (n_layers, n_heads, 1))
    strength[2, 1], strength[3, 0], strength[3, 2] = 0.35, 0.3, -0.1
    values = strength * (1 - np.exp(-repetitions / 1.5))
    dims = ("layer", "head", "repetitions")
    variables = {
        "attention": (dims, abs(values) * 2),
        "attention_stderr": (dims, np.full_like(values, 0.02)),
        "attribution": (dims, values * 8),
        "attribution_stderr": (dims, np.full_like(values, 0.1)),
        "dominance": (dims, values),
        "n_examples": (("repetitions",), np.full(7, 10)),
    }
    return xr.Dataset(variables, {"layer": range(n_layers), "head": range(n_heads), "repetitions": repetitions})
