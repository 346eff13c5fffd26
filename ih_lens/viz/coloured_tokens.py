"""A text whose tokens are coloured by numbers, as one piece of HTML without script."""

import math
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.results import to_numpy
from ih_lens.viz import style
from ih_lens.viz.local_html import LocalHTML, page
from ih_lens.viz.visible_tokens import visible_token

_MOST_TOKENS = 20_000
"""More <span> elements make a notebook slow."""


class Colouring(NamedTuple):
    """One way to colour a text.

    Attributes:
        label: what the numbers are.
        values: one per token; NaN is grey.
        says: one text per token, shown below the text for the token under the mouse.
    """

    label: str
    values: Float[np.ndarray, "pos"]
    says: Sequence[str]


class Scale(NamedTuple):
    """From numbers to colours: zero is white, and colours grow to both sides as far as `limit`.

    Attributes:
        limit: magnitude of the fullest colour.
        below, above: colours of -limit and limit.
        below_says, above_says: what the two sides mean, with the unit.
        undefined_says: what grey means.
    """

    limit: float
    below: str
    above: str
    below_says: str
    above_says: str
    undefined_says: str

    def colour(self, value: float) -> str:
        """The colour of a number, as #RRGGBB."""
        if math.isnan(value):
            return style.UNDEFINED
        share = min(abs(value) / self.limit, 1.0)
        full = self.below if value < 0 else self.above
        channels = (int(full[place : place + 2], 16) for place in (1, 3, 5))
        return "#" + "".join(f"{round(255 + share * (channel - 255)):02X}" for channel in channels)


def coloured_tokens(
    tokens: Sequence[str],
    values: Float[Tensor, "*kind pos"] | Sequence[float] | xr.DataArray,
    *,
    labels: Sequence[str] | None = None,
    unit: str = "",
    limit: float | None = None,
    title: str = "Tokens by value",
) -> LocalHTML:
    """Colour tokens by one or several numbers each: blue above zero, orange below, white at zero, grey where NaN.

    Hovering a token says its numbers, a click keeps them shown. White space is made visible. This is HTML and CSS
    without script, a few kilobytes; it stays when a notebook is printed or converted. (circuitsvis has a component
    of this name. It is not used because it reads tokens as HTML, so that a token such as `<img onerror=...>` acts,
    shows nothing at all as soon as one number is NaN, has no legend, and brings 1.3 MB of script.)

    Args:
        tokens: texts of the tokens, such as `token_texts` gives.
        values: [pos], or [kind, pos] to choose from; any unit.
        labels: what each kind is, where there are several; "value" by default.
        unit: of the values, shown with them.
        limit: magnitude that gets the fullest colour, also for what lies beyond; the largest there is by default.
        title: heading.

    Raises:
        InputError: if the numbers do not belong to the tokens, or there are more than 20,000 to draw.

    Examples:
        >>> coloured_tokens(["The", " cat", "."], [0.5, -1.0, 0.0], unit="logits").save("tokens.html")
        PosixPath('tokens.html')
    """
    numbers = np.atleast_2d(_numbers(values))
    names = ["value"] if labels is None and len(numbers) == 1 else list(labels or [])
    if numbers.ndim != 2 or numbers.shape[1] != len(tokens):
        raise InputError(
            f"values: expected one per token, [pos] or [kind, pos] for {len(tokens)} tokens, got shape {numbers.shape}"
        )
    if len(names) != len(numbers):
        raise InputError(f"labels: expected {len(numbers)}, one per kind of value, got {len(names)}")
    says = [
        "   ".join(f"{name} {_number(value)}{_spaced(unit)}" for name, value in zip(names, column, strict=True))
        for column in numbers.T
    ]
    extent = scale_limit(numbers, limit)
    scale = Scale(
        extent,
        style.BELOW_ZERO,
        style.ABOVE_ZERO,
        f"{_number(-extent)}{_spaced(unit)}" if (numbers < 0).any() else "",
        f"{_number(extent)}{_spaced(unit)}",
        "no value",
    )
    colourings = [Colouring(name, row, says) for name, row in zip(names, numbers, strict=True)]
    return coloured_text(title, tokens, colourings, scale)


def coloured_text(title: str, tokens: Sequence[str], colourings: Sequence[Colouring], scale: Scale) -> LocalHTML:
    """A text with its colours, a legend, and a line that says what the mouse points to.

    Raises:
        InputError: if there is nothing to draw or too much.
    """
    n_drawn = len(tokens) * len(colourings)
    if not 0 < n_drawn <= _MOST_TOKENS:
        raise InputError(f"expected 1 to {_MOST_TOKENS:,} coloured tokens, got {n_drawn:,}; show a part of the text")
    shows = "".join(
        f".ih-tokens:has(input.k{place}:not(:checked)) .text.k{place}{{display:none}}"
        for place in range(len(colourings))
        if len(colourings) > 1
    )
    texts = "".join(
        f'<div class="text k{place}">{_spans(tokens, colouring, scale)}</div>'
        for place, colouring in enumerate(colourings)
    )
    colours = f"--text:{style.TEXT};--mark:{style.LINE};--faint:{style.GREY}"
    inline = (
        f'<form class="ih-tokens" style="{colours}"><style>{_style()}{shows}</style>'
        f'<div class="title">{escape(title)}</div>'
        f"{_choice(colourings)}{texts}{_legend(colourings, scale)}"
        '<div class="hint">Point to a token for its numbers; click to keep them.</div></form>'
    )
    return LocalHTML(title, page(title, inline), inline)


def scale_limit(values: np.ndarray, limit: float | None) -> float:
    """The magnitude of the fullest colour: as given, or the largest finite one.

    Raises:
        InputError: if the one given is not positive.
    """
    if limit is None:
        finite = np.abs(values[np.isfinite(values)])
        return float(finite.max(initial=0)) or 1.0
    if not (math.isfinite(limit) and limit > 0):
        raise InputError(f"limit: expected a positive number, got {limit!r}")
    return float(limit)


def _numbers(values: Tensor | Sequence[float] | xr.DataArray) -> np.ndarray:
    """In double precision, from wherever they lie."""
    try:
        return np.asarray(to_numpy(values) if isinstance(values, Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"values: expected numbers, one per token, got {values!r:.200}") from error


def _choice(colourings: Sequence[Colouring]) -> str:
    """Buttons to choose a colouring with; without them where there is one."""
    if len(colourings) == 1:
        return ""
    return "".join(
        f'<label><input type="radio" name="kind" class="k{place}"{" checked" * (not place)}> {escape(of.label)}</label>'
        for place, of in enumerate(colourings)
    )


def _spans(tokens: Sequence[str], colouring: Colouring, scale: Scale) -> str:
    parts: list[str] = []
    for place, (token, value, says) in enumerate(zip(tokens, colouring.values, colouring.says, strict=True)):
        shown = escape(visible_token(token))
        line = f"{place}: {shown}   {escape(says)}"
        parts.append(
            f'<span class="t" tabindex="-1" style="background:{scale.colour(float(value))}" data-says="{line}">'
            f"{shown}</span>" + "<br>" * token.count("\n")
        )
    return "".join(parts)


def _legend(colourings: Sequence[Colouring], scale: Scale) -> str:
    ramp = f"{scale.below},#FFFFFF,{scale.above}" if scale.below_says else f"#FFFFFF,{scale.above}"
    bar = f'<span class="bar" style="background:linear-gradient(to right,{ramp})"></span>'
    parts = [f"<span>{escape(scale.below_says or '0')}</span>", bar, f"<span>{escape(scale.above_says)}</span>"]
    if any(np.isnan(of.values).any() for of in colourings):
        key = f'<span class="key" style="background:{style.UNDEFINED}"></span>'
        parts.append(f"<span>{key}{escape(scale.undefined_says)}</span>")
    return f'<div class="legend">{"".join(parts)}</div>'


@cache
def _style() -> str:
    return files("ih_lens.viz").joinpath("assets", "coloured_tokens.css").read_text(encoding="utf8")


def _number(value: float) -> str:
    """Three digits with a true minus sign."""
    return "none" if math.isnan(value) else f"{value:.3g}".replace("-", "−")


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""
