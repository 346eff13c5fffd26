"""Every function of `ih_lens.viz` that draws, called with made-up data of the paper's shapes.

`tests/viz/test_every_figure.py` holds that each is here and checks what all figures must have. To look at them:
`python -m tests.viz.every_figure FOLDER` writes a PNG of each, and `contact_sheet.png`. Whoever adds a figure adds a
line to EVERY_FIGURE, under the name of the function; `NAME (what is special)` are further looks at the same function.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import kaleido
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
import xarray as xr
from PIL import Image

import ih_lens as ih
from ih_lens import viz
from tests.viz import realistic, repeating
from tests.viz.realistic import BANDS, LAYERS, SIZES

Draw = Callable[[], go.Figure]


def _maps(*, derivative: bool = False) -> dict[str, xr.DataArray]:
    means = {name: realistic.over_training(layers) for name, layers in LAYERS.items()}
    return {name: ih.loss_derivative(values) for name, values in means.items()} if derivative else dict(means)


@cache
def _losses(name: str) -> ih.TokenLosses:
    return realistic.losses(LAYERS[name])


def _curves() -> dict[str, xr.DataArray]:
    return {name: ih.loss_curve(_losses(name)) for name in LAYERS}


def _bumps() -> dict[str, tuple[ih.NonConvexSpan, ...]]:
    return {name: ih.non_convex_spans(_losses(name)) for name in LAYERS}


def _slopes() -> dict[str, xr.DataArray]:
    return {name: ih.loss_token_derivative(_losses(name), span=0.3) for name in LAYERS}


def _sensitivities() -> dict[str, xr.DataArray]:
    return {
        name: ih.in_context_learning_sensitivity(values.isel(snapshot=-1), **_INDICES)
        for name, values in _maps().items()
    }


_INDICES = {"late": [20, 50, 100, 200, 300, 500], "early": [2, 5, 10, 20, 50, 100, 200]}


def _chosen(layers: int) -> xr.DataArray:
    """Five tokens, some harder than others."""
    indices, elapsed = [4, 5, 30, 45, 58], realistic.tokens()
    noise = np.random.default_rng(layers).normal(0, 0.06, (len(elapsed), len(indices)))
    values = realistic.mean_losses(layers, elapsed, 60)[:, indices] + noise + np.linspace(-1, 1.5, len(indices))
    places = {"example": ("token", [0, 0, 0, 1, 1]), "context_index": ("token", indices)}
    return xr.DataArray(values, {**places, "tokens_elapsed": ("snapshot", elapsed)}, ("snapshot", "token"))


def _scores() -> dict[str, xr.DataArray]:
    return {name: ih.in_context_learning_score(_losses(name)) for name in LAYERS}


def _heads() -> dict[str, xr.DataArray]:
    return {name: realistic.heads(layers) for name, layers in LAYERS.items()}


def _types() -> dict[str, xr.DataArray]:
    return {name: realistic.head_types(scores) for name, scores in _heads().items()}


def _last_heads() -> xr.DataArray:
    return realistic.heads(6).isel(snapshot=-1)


def _all_scores() -> dict[str, ih.HeadScores]:
    sizes = {"1L": (1, 8), "2L": (2, 8), "6L": (6, 8), "12L": (12, 12), "24L": (24, 16)}
    return {name: realistic.all_scores(*size, seed=size[0]) for name, size in sizes.items()}


def _matches() -> xr.DataArray:
    return realistic.all_scores(12, 12)["prefix_matching"]


def _groups() -> tuple[xr.DataArray, xr.DataArray]:
    """Effects of three groups of heads, and of twenty random ones beside each."""
    effects = xr.DataArray([0.61, 0.34, 0.02], {"group": ["L5H1+L5H5+L6H9", "L5H1+L5H5", "L0H3"]}, ("group",))
    return effects, xr.DataArray(np.random.default_rng(2).normal(0.03, 0.04, (20, 3)), dims=("draw", "group"))


def _paths() -> dict[str, xr.DataArray]:
    return {name: realistic.path(layers) for name, layers in LAYERS.items()}


def _behaviours() -> ih.HeadScores:
    """Induction heads that copy, one that translates, one that matches patterns; all others do nothing of it."""
    generator, matching = np.random.default_rng(1), realistic.all_scores(12, 12, seed=12)["prefix_matching"].to_numpy()
    scores = {"prefix_matching": matching}
    for name, least, only in (("literal_copying", 0.01, 0), ("translation", 0.05, 1), ("pattern_matching", 0.06, 2)):
        baseline = least + generator.exponential(0.01, matching.shape)
        chosen = np.flatnonzero(matching.ravel() > 0.3)[only::3] if only else np.flatnonzero(matching.ravel() > 0.3)
        shown = baseline.copy()
        shown.ravel()[chosen] += 0.65 * matching.ravel()[chosen]
        scores |= {name: shown, f"{name}_baseline": baseline, f"{name}_excess": shown - baseline}
    about = {name: {"range": (0.0, 1.0)} for name in scores}
    return ih.HeadScores.from_tensors({name: torch.tensor(of) for name, of in scores.items()}, attributes=about)


def _conditions() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"condition": name, "seed": seed, "step": step, "loss": 0.7 / (1 + np.exp((step - middle) / 60)) + noise}
            for name, middle in (("free", 600), ("previous token clamped", 300))
            for seed in range(3)
            for step, noise in zip(range(0, 1001, 20), np.abs(generator.normal(0, 0.02, 51)), strict=True)
        ]
    )


def _learning_times() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"condition": name, "seed": seed, "step": step + 40 * seed, "n_steps": 1000}
            for name, step in (("free", 620.0), ("previous token clamped", 310.0), ("no previous token", np.nan))
            for seed in range(3)
        ]
    )


def _losses_by_condition() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"group": group, "condition": name, "seed": seed, "loss": loss + 0.05 * seed}
            for group, name, loss in (("ablated", "L1H0", 1.2), ("ablated", "none", 0.4), ("exact", "L1H0", 0.5))
            for seed in range(3)
        ]
    )


def _dissociation() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "condition": condition,
                "varied": varied,
                "number": number,
                "seed": seed,
                "step": slope * number + 30 * seed,
            }
            for condition, slope in (("match", 2.0), ("copy", 6.0), ("both", 9.0))
            for varied, numbers in (("labels", (5, 10, 20)), ("classes", (50, 200, 800)))
            for number in numbers
            for seed in range(3)
        ]
    )


def _toy_model() -> pd.DataFrame:
    steps = np.arange(0, 400, 4)
    return pd.concat(
        [
            pd.DataFrame({"condition": name, "step": steps, "loss": 1 / (1 + np.exp((steps - middle) / 15))})
            for name, middle in (("all learned", 250), ("one given", 160), ("two given", 80))
        ]
    )


EVERY_FIGURE: dict[str, Draw] = {
    "plot_behaviours": lambda: viz.plot_behaviours(_behaviours()),
    "plot_loss": lambda: viz.plot_loss(_curves(), phase_changes=BANDS),
    "plot_loss (logarithmic)": lambda: viz.plot_loss(_curves(), phase_changes=BANDS, log_tokens=True),
    "plot_in_context_learning": lambda: viz.plot_in_context_learning(_scores(), phase_changes=BANDS),
    "plot_loss_by_context_index": lambda: viz.plot_loss_by_context_index(
        {**_maps(), "not measured": None}, phase_changes=BANDS
    ),
    "plot_loss_derivative": lambda: viz.plot_loss_derivative(
        _maps(derivative=True), phase_changes=BANDS, log_tokens=True
    ),
    "plot_token_loss_pca": lambda: viz.plot_token_loss_pca(
        _paths(), explained_variance_ratio=[0.71, 0.2], phase_changes=BANDS
    ),
    "plot_token_loss_pca_together": lambda: viz.plot_token_loss_pca_together(
        _paths(), explained_variance_ratio=[0.71, 0.2], phase_changes=BANDS
    ),
    "plot_loss (bumps)": lambda: viz.plot_loss(_curves(), phase_changes=BANDS, bumps=_bumps()),
    "plot_loss_divergence": lambda: viz.plot_loss_divergence(
        {name: ih.loss_difference(_losses(name), _losses("1L")) for name in LAYERS if name != "1L"},
        reference="1L",
        phase_changes={name: band for name, band in BANDS.items() if name != "1L"},
        log_tokens=True,
    ),
    "plot_loss_split": lambda: viz.plot_loss_split(
        {"2L": repeating.loss_split(), "4L": repeating.loss_split(3)},
        phase_changes={"2L": realistic.PHASE_CHANGE, "4L": realistic.PHASE_CHANGE},
    ),
    "plot_loss_split (parts)": lambda: viz.plot_loss_split({"2L": repeating.score_parts()}, log_tokens=True),
    "plot_loss_spikes": lambda: viz.plot_loss_spikes(
        {"6L": repeating.spiked_curve()}, {"6L": ih.loss_spikes(repeating.spiked_curve(), width=4)}
    ),
    "plot_loops": lambda: viz.plot_loops(repeating.loops()),
    "plot_repetition_dominance": lambda: viz.plot_repetition_dominance(repeating.dominance()),
    "plot_chosen_token_losses": lambda: viz.plot_chosen_token_losses(
        {name: _chosen(layers) for name, layers in LAYERS.items()},
        texts=[" Mirabel", " Thorne", " the", "\n", " quince"],
        phase_changes=BANDS,
        log_tokens=True,
    ),
    "plot_in_context_learning_sensitivity": lambda: viz.plot_in_context_learning_sensitivity(_sensitivities()),
    "plot_in_context_learning_by_early_index": lambda: viz.plot_in_context_learning_by_early_index(_sensitivities()),
    "plot_losses_across_context": lambda: viz.plot_losses_across_context(
        {name: values.isel(snapshot=-1) for name, values in _maps().items()}, smoothing=2
    ),
    "plot_losses_across_context (difference)": lambda: viz.plot_losses_across_context(
        {name: values.isel(snapshot=-1) for name, values in _maps().items()}, relative_to="1L"
    ),
    "plot_loss_token_derivative": lambda: viz.plot_loss_token_derivative(
        _slopes(), order=ih.loss_derivative_order(_slopes(), SIZES), phase_changes=BANDS
    ),
    "plot_heads_by_depth": lambda: viz.plot_heads_by_depth(
        _heads(), title="Prefix matching", unit="score (0 to 1)", phase_changes=BANDS
    ),
    "plot_prefix_matching": lambda: viz.plot_prefix_matching(_heads(), phase_changes=BANDS, log_tokens=True),
    "plot_qk_eigenvalue_trace": lambda: viz.plot_qk_eigenvalue_trace(_heads(), phase_changes=BANDS),
    "plot_heads_by_type": lambda: viz.plot_heads_by_type(
        _heads(), _types(), title="Ablation", unit="change (nats)", phase_changes=BANDS
    ),
    "plot_before_and_after": lambda: viz.plot_before_and_after(_heads(), _types(), phase_changes=BANDS),
    "plot_in_context_learning_attribution": lambda: viz.plot_in_context_learning_attribution(
        _heads(), _types(), phase_changes=BANDS
    ),
    "plot_composition": lambda: viz.plot_composition(realistic.composition(), types=realistic.composition_types()),
    "plot_composition_matrix": lambda: viz.plot_composition_matrix(realistic.composition()),
    "plot_match_terms": lambda: viz.plot_match_terms(realistic.match_terms()),
    "plot_score_terms": lambda: viz.plot_score_terms(realistic.match_terms()),
    "plot_head_partners": lambda: viz.plot_head_partners(ih.head_partners(*realistic.path_effects()), title="L5H5"),
    "plot_induction_kinds": lambda: viz.plot_induction_kinds(realistic.kinds_of_induction()),
    "plot_head_intervals": lambda: viz.plot_head_intervals(
        _matches(),
        realistic.interval_of(_matches()),
        null=realistic.drawn_by_chance(12),
        title="Prefix matching",
        unit="score (0 to 1)",
    ),
    "plot_head_intervals (groups)": lambda: viz.plot_head_intervals(
        _groups()[0],
        realistic.interval_of(_groups()[0]),
        null=_groups()[1],
        title="Loss without heads",
        unit="difference (nats)",
    ),
    "plot_null_distribution": lambda: viz.plot_null_distribution(
        _matches(), realistic.drawn_by_chance(12), title="Prefix matching", unit="score (0 to 1)"
    ),
    "plot_head_mosaic": lambda: viz.plot_head_mosaic(_all_scores(), "prefix_matching"),
    "plot_head_mosaic (undefined)": lambda: viz.plot_head_mosaic(_all_scores(), "qk_eigenvalue_trace"),
    "plot_joint_scores": lambda: viz.plot_joint_scores({"12L": realistic.all_scores(12, 12)}),
    "plot_joint_scores (models)": lambda: viz.plot_joint_scores(_all_scores()),
    "plot_score_agreement": lambda: viz.plot_score_agreement(_all_scores(), "previous_token", "copying"),
    "plot_copying_validation": lambda: viz.plot_copying_validation(_all_scores()),
    "plot_prefix_matching_validation": lambda: viz.plot_prefix_matching_validation(_all_scores()),
    "plot_prefix_matching_validation (together)": lambda: viz.plot_prefix_matching_validation(
        _all_scores(), together=True
    ),
    "plot_score_by_depth": lambda: viz.plot_score_by_depth(_all_scores()),
    "plot_head_map": lambda: viz.plot_head_map(_last_heads(), title="Prefix matching", unit="score (0 to 1)"),
    "plot_condition_losses": lambda: viz.plot_condition_losses(_conditions(), levels={"threshold": 0.28}),
    "plot_learning_times": lambda: viz.plot_learning_times(_learning_times()),
    "plot_losses_by_condition": lambda: viz.plot_losses_by_condition(_losses_by_condition()),
    "plot_dissociation": lambda: viz.plot_dissociation(_dissociation()),
    "plot_toy_model": lambda: viz.plot_toy_model(_toy_model()),
}
"""By name of the function, what calls it."""


@contextmanager
def one_browser() -> Iterator[None]:
    """All pictures inside are drawn by one browser, which starts once."""
    kaleido.start_sync_server(mathjax=False)
    try:
        yield
    finally:
        kaleido.stop_sync_server()


def render(folder: Path, *, scale: int = 1) -> list[Path]:
    """Write a PNG of each figure."""
    with one_browser():
        return [viz.save_figure(draw(), folder / f"{name}.png", scale=scale) for name, draw in EVERY_FIGURE.items()]


def contact_sheet(paths: list[Path], *, width: int = 900, n_columns: int = 2) -> Image.Image:
    """All pictures on one, scaled to one width."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    scaled = [picture.resize((width, round(picture.height * width / picture.width))) for picture in pictures]
    columns = [scaled[start::n_columns] for start in range(n_columns)]
    height = max(sum(picture.height for picture in column) for column in columns)
    sheet = Image.new("RGB", (width * n_columns, height), "white")
    for place, column in enumerate(columns):
        top = 0
        for picture in column:
            sheet.paste(picture, (place * width, top))
            top += picture.height
    return sheet


if __name__ == "__main__":
    target = Path(sys.argv[1])
    contact_sheet(render(target)).save(target / "contact_sheet.png")
