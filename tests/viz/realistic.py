"""Made-up results with the shapes that the paper shows, for looking at figures: an abrupt change early in training.

Nothing here was measured. Models of more layers are better, and all but those of one layer begin to use the rest of
the context between 2.5 and 5 billion tokens.
"""

import numpy as np
import torch
import xarray as xr

import ih_lens as ih
from ih_lens.results import stack_snapshots
from tests.analysis.made_up import losses_of

PHASE_CHANGE = (2.5e9, 5.0e9)
SIZES = {"1L": 1.0e6, "2L": 2.0e6, "4L": 8.0e6, "6L": 2.5e7}
LAYERS = {name: int(name[0]) for name in SIZES}
BANDS = {name: PHASE_CHANGE if layers > 1 else None for name, layers in LAYERS.items()}


def tokens(n_snapshots: int = 60, *, even: bool = False) -> np.ndarray:
    """Tokens elapsed: none, then spaced evenly or by a factor up to 15 billion."""
    later = np.linspace(0, 1.5e10, n_snapshots)[1:] if even else np.geomspace(2e7, 1.5e10, n_snapshots - 1)
    return np.concatenate([[0], later]).astype(np.int64)


def mean_losses(layers: int, elapsed: np.ndarray, n_indices: int = 511) -> np.ndarray:
    """Mean losses [snapshot, context_index] in nats."""
    billions = elapsed[:, None] / 1e9
    index = np.arange(1, n_indices + 1)[None]
    size = 1 + 0.12 * np.log(layers)
    base = (
        3.3 / size
        + 0.9 * layers**-0.2
        + (11 - 3.3 / size - 0.9 * layers**-0.2) * (1 + billions / 0.05) ** (-0.42 * size)
    )
    learned = 1 / (1 + np.exp(-30 * np.log(np.maximum(billions, 1e-6) / 3.5)))
    near = 0.55 * np.log(np.minimum(index, 50) / 50) * np.minimum(billions / 0.1, 1)
    late_gain = 0.2 if layers > 1 else 0.03
    far = late_gain * np.log(np.maximum(index / 25, 1))
    return base - near - far * learned


def over_training(layers: int, n_snapshots: int = 60, n_indices: int = 511, *, even: bool = False) -> xr.DataArray:
    """Loss by context index over training, with a little noise."""
    elapsed = tokens(n_snapshots, even=even)
    noise = np.random.default_rng(layers).normal(0, 0.01, (n_snapshots, n_indices))
    labels = {"tokens_elapsed": ("snapshot", elapsed), "step": ("snapshot", elapsed // 65536)}
    coords = {**labels, "context_index": np.arange(1, n_indices + 1)}
    return xr.DataArray(
        mean_losses(layers, elapsed, n_indices) + noise, dims=("snapshot", "context_index"), coords=coords
    )


def losses(layers: int, n_snapshots: int = 60, n_examples: int = 128, n_indices: int = 511) -> ih.TokenLosses:
    """Losses of examples over training; what is hard about an example stays so, as in real ones."""
    elapsed = tokens(n_snapshots)
    means = mean_losses(layers, elapsed, n_indices)
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 0.8, (n_examples, n_indices))
    drawn = np.random.default_rng(layers)
    results = [losses_of(mean + hard + drawn.normal(0, 0.02, hard.shape), at=(50, 500)) for mean in means]
    return stack_snapshots(results, [int(count) // 65536 for count in elapsed], [int(count) for count in elapsed])


def heads(layers: int, n_heads: int = 12, n_snapshots: int = 60) -> xr.DataArray:
    """Prefix matching [snapshot, layer, head]: some heads after the first layer rise in the phase change."""
    elapsed = tokens(n_snapshots)
    generator = np.random.default_rng(layers)
    height = np.clip(generator.normal(-0.2, 0.5, (layers, n_heads)), 0, 0.95)
    height[0] = 0.02
    rise = 1 / (1 + np.exp(-8 * np.log(np.maximum(elapsed, 1) / 3.6e9)))
    scores = rise[:, None, None] * height + np.abs(generator.normal(0.02, 0.01, (n_snapshots, layers, n_heads)))
    return xr.DataArray(scores, dims=("snapshot", "layer", "head"), coords={"tokens_elapsed": ("snapshot", elapsed)})


def all_scores(n_layers: int, n_heads: int, seed: int = 0) -> ih.HeadScores:
    """All measures at the end of training: induction heads about the middle, most of which copy."""
    generator = np.random.default_rng(seed)
    size = (n_layers, n_heads)
    depth = np.linspace(0, 1, n_layers)[:, None] if n_layers > 1 else np.zeros((1, 1))
    chance = np.where(depth > 0.1, 0.3 * np.exp(-(((depth - 0.55) / 0.25) ** 2)), 0)
    is_induction = generator.random(size) < chance
    matches = np.where(is_induction, 0.1 + 0.85 * generator.random(size) ** 0.7, 0.12 * generator.random(size) ** 3)
    copies = np.where(is_induction, 1.3 * generator.random(size) - 0.3, generator.normal(0, 0.13, size))
    trace = 30 * matches + generator.normal(0, 1.5, size)
    trace[0] = np.nan
    measures = {
        "prefix_matching": (matches, (0.0, 1.0)),
        "copying": (np.clip(copies, -1, 1), (-1.0, 1.0)),
        "previous_token": (generator.random(size) ** 6, (0.0, 1.0)),
        "ov_copying_eigenvalues": (np.clip(copies + generator.normal(0, 0.12, size), -1, 1), (-1.0, 1.0)),
    }
    tensors = {name: torch.as_tensor(values) for name, (values, _) in measures.items()}
    attributes = {name: {"range": ends} for name, (_, ends) in measures.items()}
    return ih.HeadScores.from_tensors({**tensors, "qk_eigenvalue_trace": torch.as_tensor(trace)}, attributes=attributes)


def interval_of(values: xr.DataArray) -> xr.DataArray:
    """Intervals as of ten examples, [..., bound]: wider in the middle of the range; one reaches without end."""
    width = 0.01 + 0.12 * np.sqrt((values * (1 - values)).clip(0))
    bounds = xr.concat([values - width, values + 0.7 * width], dim="bound").assign_coords(bound=["low", "high"])
    endless = values == values.max()
    return bounds.where(~(endless & (bounds["bound"] == "high")), np.inf).assign_attrs(level=0.95)


def drawn_by_chance(n_layers: int, n_draws: int = 240) -> xr.DataArray:
    """Scores [draw, layer] of heads with random weights: attention spread over what is there."""
    draws = np.random.default_rng(4).beta(6, 500, (n_draws, n_layers))
    return xr.DataArray(draws, dims=("draw", "layer"))


def kinds_of_induction(n_layers: int = 12, n_heads: int = 12) -> ih.HeadScores:
    """Scores of heads of every kind, with some copy-suppression heads near the end."""
    generator = np.random.default_rng(5)
    papers = all_scores(n_layers, n_heads, seed=5)
    size, ends = (n_layers, n_heads), {"range": (-1.0, 1.0)}
    matches = papers["prefix_matching"].to_numpy()
    rare = {name: generator.random(size) ** 40 for name in ("duplicate_token", "concept_induction", "fuzzy_match")}
    suppresses = (np.arange(n_layers)[:, None] > 8) * generator.random(size) ** 4
    kinds = {
        **rare,
        "anti_induction": -matches,
        "best_offset_attention": np.maximum(matches, rare["duplicate_token"]),
        "nearest_copy": matches * generator.uniform(-0.5, 0.9, size),
        "farthest_copy": -matches * generator.uniform(-0.3, 0.5, size),
        "two_token_prefix": matches * generator.random(size),
        "token_induction": matches * 0.9,
        "attention_to_predicted": 0.3 * matches + suppresses,
        "ov_suppression": suppresses,
        "copying": papers["copying"].to_numpy() * (1 - suppresses) - suppresses,
        "prefix_matching": matches,
        "previous_token": papers["previous_token"].to_numpy(),
    }
    tensors = {name: torch.as_tensor(np.clip(values, -1, 1)) for name, values in kinds.items()}
    tensors["fuzzy_match"][3] = torch.nan
    return ih.HeadScores.from_tensors(tensors, attributes=dict.fromkeys(tensors, ends))


def composition(n_layers: int = 12, n_heads: int = 12) -> xr.DataArray:
    """Composition scores: two previous-token heads that induction heads read, in a spread as of random heads."""
    generator = np.random.default_rng(3)
    values = generator.normal(0.036, 0.002, (n_layers, n_heads, n_layers, n_heads))
    for layer, head in zip(*np.nonzero(composition_types(n_layers, n_heads).to_numpy() == "induction"), strict=True):
        values[layer, head, 1, 3] += 0.12 * generator.random()
        values[layer, head, 2, 8] += 0.05 * generator.random()
    for layer in range(n_layers):
        values[layer, :, layer:] = np.nan
    dims = ("layer", "head", "earlier_layer", "earlier_head")
    return xr.DataArray(values, dims=dims, name="k_composition").assign_coords(baseline_mean=0.036, baseline_std=0.0004)


def composition_types(n_layers: int = 12, n_heads: int = 12) -> xr.DataArray:
    """Types [layer, head] that go with `composition`."""
    names = np.full((n_layers, n_heads), "other", dtype=object)
    names[1, 3] = names[2, 8] = "previous_token"
    for layer, head in ((4, 1), (5, 5), (5, 10), (6, 9), (7, 2), (7, 10), (9, 6), (10, 7)):
        names[layer, head] = "induction"
    return xr.DataArray(names.astype(str), dims=("layer", "head"))


def match_terms(n_layers: int = 5, n_heads: int = 12, n_examples: int = 10) -> xr.Dataset:
    """Terms of the match of a head above these layers: it reads one previous-token head, and another one a little."""
    generator = np.random.default_rng(5)
    heads = [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
    names = ["embedding", "positions", *heads, *(f"MLP{layer}" for layer in range(n_layers)), "biases"]
    strengths = generator.normal(0, 0.02, (n_examples, len(names), len(names)))
    query, keys = names.index("embedding"), [names.index("L4H11"), names.index("L3H0"), names.index("MLP0")]
    strengths[:, query, keys] += [6.0, 1.5, -0.7]
    strengths[:, names.index("MLP0"), keys[0]] += 2.0
    key, value = strengths.sum(axis=1), generator.normal(0, 0.01, (n_examples, len(names)))
    value[:, [query, names.index("MLP0")]] += [0.4, 0.9]
    previous = np.full_like(key, np.nan)
    places = [names.index(head) for head in heads]
    previous[:, places] = 0.9 * key[:, places]
    variables = {
        "pairs": (("query_term", "key_term"), strengths.mean(axis=0)),
        "query": (("example", "query_term"), strengths.sum(axis=2)),
        "key": (("example", "key_term"), key),
        "key_previous": (("example", "key_term"), previous),
        "value": (("example", "value_term"), value),
        "match": (("example",), key.sum(axis=1)),
        "prefix_matching": (("example",), np.full(n_examples, 0.93)),
        "copied_first": (("example",), np.full(n_examples, 0.98)),
    }
    return xr.Dataset(variables, dict.fromkeys(("query_term", "key_term", "value_term"), names), {"head": "L5H5"})


def path_effects(n_examples: int = 10) -> tuple[xr.Dataset, xr.DataArray]:
    """Prefix matching and copied logit of the same head without each source, and with controls for three of them."""
    generator = np.random.default_rng(6)
    heads = [f"L{layer}H{head}" for layer in range(5) for head in range(12)]
    sources = [*heads, "all earlier heads", "previous token, all heads"]
    natural = np.stack([np.full(n_examples, 0.93)] * 2 + [np.full(n_examples, 2.1)])
    lost = generator.normal(0, 0.01, (3, len(sources), n_examples))
    for source, share in (
        ("L4H11", 0.71),
        ("L3H0", 0.12),
        ("all earlier heads", 0.94),
        ("previous token, all heads", 0.9),
    ):
        lost[0, sources.index(source)] += share
    without = natural[:, None] * (1 - lost)
    variables = {"natural": (("side", "example"), natural), "without": (("side", "source", "example"), without)}
    partners = ["k L4H11", "k L3H0", "q L2H4"]
    controls = 0.93 * (1 - generator.normal(0.02, 0.015, (len(partners), 8, n_examples)))
    labelled = xr.DataArray(controls, {"partner": partners}, ("partner", "control", "example"))
    return xr.Dataset(variables, {"side": ["k", "q", "v"], "source": sources}), labelled


def head_types(scores: xr.DataArray) -> xr.DataArray:
    """Types [layer, head] that go with `heads`."""
    last = scores.isel(snapshot=-1).to_numpy()
    names = np.where(last > 0.3, "induction", "other").astype(object)
    names[0, :3] = "previous_token"
    names[-1, 0] = "anti_copying_prefix_matching"
    return xr.DataArray(names.astype(str), dims=("layer", "head"))


def path(layers: int, n_snapshots: int = 60) -> xr.DataArray:
    """A path [snapshot, component] that turns in the phase change."""
    elapsed = tokens(n_snapshots)
    learned = 1 / (1 + np.exp(-6 * np.log(np.maximum(elapsed, 1) / 3.6e9)))
    trained = np.log1p(elapsed / 5e7)
    points = np.stack([8 * trained - 20, (-2 * trained + (14 * learned if layers > 1 else 0)) * layers**0.3], 1)
    return xr.DataArray(points, dims=("snapshot", "component"), coords={"tokens_elapsed": ("snapshot", elapsed)})
