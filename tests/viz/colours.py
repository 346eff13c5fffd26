"""What colour-blind readers see: Machado, Oliveira and Fernandes 2009, for the complete loss of one kind of cone."""

import re

import numpy as np
from plotly.colors import get_colorscale, sample_colorscale

from ih_lens.viz import style

VISION = {
    "all three kinds of cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def rgb(colour: str) -> np.ndarray:
    """Red, green and blue from 0 to 1 of "#RRGGBB" or "rgb(r, g, b)"; the opacity of "rgba" is left out."""
    if colour.startswith("#"):
        return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    found = re.fullmatch(r"rgba?\(([^)]*)\)", colour)
    assert found, f"colours are written as #RRGGBB or rgb(), not {colour!r}"
    return np.array([float(part) for part in found.group(1).split(",")[:3]]) / 255


def linear(colour: str) -> np.ndarray:
    """Amounts of light."""
    channels = rgb(colour)
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(colour: str, vision: str) -> np.ndarray:
    """CIE L*a*b* of what a reader sees."""
    seen = np.clip(VISION[vision] @ linear(colour), 0, 1)
    ratio = _TO_XYZ @ seen / _WHITE
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(first: str, second: str) -> float:
    """The distance of two colours in L*a*b* (1976), to the reader who sees the least of it."""
    return min(float(np.linalg.norm(lab(first, vision) - lab(second, vision))) for vision in VISION)


def contrast(colour: str) -> float:
    """Against white, 1 to 21 (Web Content Accessibility Guidelines 2: at least 3 for graphics)."""
    return 1.05 / (float(linear(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05)


def scale_colours(scale: str | list[str], n: int = 201) -> list[str]:
    """Colours along a scale."""
    points = list(np.linspace(0, 1, n))
    return [str(c) for c in sample_colorscale(get_colorscale(scale) if isinstance(scale, str) else scale, points)]


SCALES = [style.DEPTH_SCALE, style.TRAINING_SCALE, style.LOSS_SCALE, style.DERIVATIVE_SCALE]
NAMED = {
    style.PHASE_CHANGE, style.LINE, style.GREY, style.TEXT, style.FAINT, style.PALE, style.EMPTY, *style.CATEGORIES,
    *(look[1] for look in style.HEAD_TYPES.values()),
}  # fmt: skip

_ALLOWED = np.array([rgb(name) for name in [*NAMED, *(entry for scale in SCALES for entry in scale_colours(scale))]])


def is_of_the_style(colour: str) -> bool:
    """Whether a colour, whatever its opacity, is one of style.py or lies on one of its scales."""
    if colour in ("white", "rgba(0,0,0,0)"):
        return True
    return bool(np.abs(_ALLOWED - rgb(colour)).max(axis=1).min() < 0.015)
