"""What every figure has around its panels: template, title, margins, and remarks below."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ih_lens.viz import style
from ih_lens.viz.plotly_text import literal

_LINE = 15
"""Pixels per remark."""
_TITLE = {"x": 0, "xref": "paper", "y": 1, "yanchor": "top", "pad": {"t": 9}, "font": {"size": 15}}


def frame(
    figure: go.Figure, title: str, *, width: int, height: int, remarks: Sequence[str] = (), more_top: int = 0
) -> None:
    """Give a figure its title and size.

    Args:
        figure: what is drawn.
        title: heading, at the left, shown as it stands.
        width: pixels of the panels, without margins.
        height: of the panels.
        remarks: what a reader must know, below the panels, a line for each.
        more_top: pixels that the names of panels need beyond one line.
    """
    bottom = style.BOTTOM + max(len(remarks) - 1, 0) * _LINE
    figure.update_layout(
        template=style.TEMPLATE,
        title={"text": literal(title), **_TITLE},
        width=width + style.LEFT + style.RIGHT,
        height=height + style.TOP + more_top + bottom,
        margin={"l": style.LEFT, "r": style.RIGHT, "t": style.TOP + more_top, "b": bottom},
        legend_maxheight=1,  # all that is beside the panels
    )
    figure.update_xaxes(title_standoff=6)  # remarks stand close below
    place = {"x": 0, "y": 0, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    look = {"showarrow": False, "font": {"size": 11, "color": style.GREY}}
    for line, text in enumerate(remarks):
        figure.add_annotation(text=text, yshift=-style.BOTTOM - line * _LINE, **look, **place)
