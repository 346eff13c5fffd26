"""Where in their depth models have the heads with high scores."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import xarray as xr

from ih_lens.analysis.last_snapshot import last_snapshot
from ih_lens.analysis.score_by_depth import relative_depth, score_by_depth
from ih_lens.results import HeadScores
from ih_lens.viz import style
from ih_lens.viz.frame import frame
from ih_lens.viz.head_points import head_points, of_each_model, point_looks
from ih_lens.viz.measure_names import measure_name, measure_title
from ih_lens.viz.opaque import TRANSLUCENT, Opaque, chosen_opaque, some_translucent
from ih_lens.viz.plotly_text import literal

_WIDTH, _HEIGHT, _PER_ENTRY = 560, 300, 19
"""Pixels; the last of an entry in the legend."""
_DASHES = ("solid", "dash", "dot", "dashdot")


def plot_score_by_depth(
    scores: Mapping[str, HeadScores],
    measure: str = "prefix_matching",
    *,
    quantiles: Sequence[float] = (1.0, 0.9),
    n_bins: int = 8,
    opaque: Opaque = True,
) -> go.Figure:
    """Where induction heads form: each head's score against the depth of its layer, for one or many models.

    Depth is 0 for the first layer and 1 for the last; one-layer models stand at 0. Lines are quantiles over the heads
    of all models in bins of depth.

    Args:
        scores: per model; the last snapshot counts where snapshots were stacked.
        measure: name of the measure.
        quantiles: of the lines, 0 to 1; 1 is the maximum. Empty for no lines.
        n_bins: of depth.
        opaque: which heads are opaque, as in `plot_heads_by_depth`.

    Raises:
        InputError: if there is no model, or one has no such measure.

    Examples:
        >>> plot_score_by_depth({"gpt2": scores, "pythia-70m": others})

    The paper's appendix shows this as "Where induction heads form".
    """
    grids = {name: last_snapshot(of_model[measure]) for name, of_model in of_each_model(scores).items()}
    title = measure_title(next(iter(grids.values())))
    figure, looks = go.Figure(), point_looks(list(grids))
    samples = {name: chosen_opaque(opaque, name, grid) for name, grid in grids.items()}
    for name, grid in grids.items():
        depth = xr.zeros_like(grid, dtype=float) + relative_depth(grid.sizes["layer"])[:, None]
        titles = ("depth", measure_name(measure))
        figure.add_traces(
            head_points(name, depth, grid, titles=titles, look=looks[name], opaque=samples[name], legend=True)
        )
    if quantiles:
        by_depth = score_by_depth(list(grids.values()), n_bins=n_bins, quantiles=quantiles)
        figure.add_traces([_steps(by_depth.isel(quantile=place), place) for place in range(len(quantiles))])
    figure.update_xaxes(title="depth of the layer (0: first, 1: last)", range=[-0.04, 1.04])
    figure.update_yaxes(title=literal(title))
    frame(
        figure,
        f"Where in the model: {measure_name(measure)} of each head",
        width=_WIDTH,
        height=max(_HEIGHT, _PER_ENTRY * (len(grids) + 2 * len(quantiles))),
        remarks=[TRANSLUCENT] if some_translucent(samples.values()) else [],
    )
    return figure


def _steps(line: xr.DataArray, place: int) -> go.Scatter:
    """A quantile as a flat line over each bin."""
    quantile = float(line["quantile"])
    name = {1.0: "maximum", 0.5: "median", 0.0: "minimum"}.get(quantile, f"{100 * quantile:g} % lie below")
    ends = zip(line["depth_from"].to_numpy(), line["depth_to"].to_numpy(), strict=True)
    return go.Scatter(
        x=[end for pair in ends for end in pair],
        y=line.to_numpy().repeat(2),
        mode="lines",
        line={"color": style.TEXT, "width": 1.5, "dash": _DASHES[place % len(_DASHES)]},
        name=f"{name}<br>(bins of depth)",
        connectgaps=False,
        hovertemplate=f"{name} of the heads in this bin<br>%{{y:.3f}}<extra></extra>",
    )
