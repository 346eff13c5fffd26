"""Colours, sizes and the template of all figures; colours used together can be told apart by colour-blind readers.

Lines have a contrast of at least 3 against white. `tests/viz/test_style.py` holds both, for the three kinds of colour
blindness.
"""

from typing import Any

import plotly.graph_objects as go

PHASE_CHANGE = "#E69F00"
"""The orange of the band that marks the phase change."""

LINE = "#1F3B63"
"""A model's own line, where nothing else is encoded in colour."""

TEXT = "#222222"
FAINT = "#B5B5B5"
"""Thin lines that only join points."""

PALE = "#B9CBE0"
"""Bars behind points."""

EMPTY = "#F0F0F0"
"""A panel without data."""

BAND_OPACITY = 0.3
BAND = {"opacity": BAND_OPACITY, "layer": "below", "line": {"width": 0}}
"""The phase change behind lines."""

BAND_ON_MAP = {
    "opacity": 0.85,
    "layer": "above",
    "line": {"color": PHASE_CHANGE, "width": 2},
    "fillcolor": "rgba(0,0,0,0)",
}
"""The phase change on heat maps: an outline, because a fill would change the colours that carry the numbers."""

GREY = "#6B6B6B"
"""Remarks and notes."""

CATEGORIES = ("#0346D6", "#C35801", "#017B59", "#B6579B", "#3694FC", "#724218", "#1D325E")
"""Lines and points that have no order, such as seeds; the orange of the phase change is none of them."""

ABOVE_ZERO, BELOW_ZERO, UNDEFINED = "#5AA5E8", "#F2994A", "#D5D5D5"
"""Behind dark text: the fullest colour of each sign, from white at zero; and no number."""

HEAD_TYPES: dict[str, tuple[str, str, str]] = {
    "other": ("other", "#8E908B", "solid"),
    "previous_token": ("previous token", "#00A85A", "dash"),
    "anti_copying_prefix_matching": ("anti-copying<br>prefix-matching", "#C274BC", "dot"),
    "induction": ("induction", "#0062BD", "solid"),
}
"""Label, colour and dash of each type of head, in the order of drawing: what matters most comes on top."""

DEPTH_SCALE = ["#2AA35A", "#21808C", "#3B528B", "#440154"]
"""First to last layer, or smallest to largest model: light to dark, readable as lines on white."""

TRAINING_SCALE = DEPTH_SCALE
LOSS_SCALE = "Blues"
DERIVATIVE_SCALE = "PRGn"
"""No reds or yellows in maps, so that the orange of the phase change stands out on them."""

LEFT, RIGHT, TOP, BOTTOM = 80, 165, 56, 62
"""Margins in pixels, the same in all rows, so that the columns of a table stand below each other."""
GAP = 24
PANEL_HEIGHT = 190

_AXIS = {
    "gridcolor": "#ECECEC",
    "linecolor": "#A0A0A0",
    "mirror": True,
    "showgrid": True,
    "showline": True,
    "ticks": "",
    "zeroline": False,
}

TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font={"family": "Helvetica, Arial, sans-serif", "size": 12, "color": TEXT},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
        xaxis=_AXIS,
        yaxis=_AXIS,
        legend={
            "x": 1.0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "top",
            "font": {"size": 11},
            "bgcolor": "rgba(0,0,0,0)",
            "tracegroupgap": 0,
        },
    )
)


def panel_width(n_panels: int) -> int:
    """Pixels for one model: a row of up to seven fits a wide window, a longer one scrolls."""
    return max(170, min(430, 1330 // max(n_panels, 1)))


def translucent(colour: str, opacity: float) -> str:
    """A colour such as "#1F3B63" that lets through what lies behind it."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def colour_bar(title: str, **changes: Any) -> dict[str, Any]:
    """A colour bar at the lower right, below the legend."""
    return {
        "title": {"text": title, "side": "right", "font": {"size": 11}},
        "tickfont": {"size": 11},
        "thickness": 12,
        "len": 0.8,
        "x": 1.0,
        "xpad": 14,
        "y": 0.0,
        "yanchor": "bottom",
        "outlinewidth": 0,
        **changes,
    }
