"""Colours that are used together can be told apart by all readers, and lines are seen on white."""

from itertools import combinations

import numpy as np
import pytest

from ih_lens.viz import style
from tests.viz.colours import VISION, contrast, difference, is_of_the_style, lab, scale_colours

LEAST_DIFFERENCE = 20
LEAST_CONTRAST = 3
TOGETHER = {
    "categories": [*style.CATEGORIES, style.PHASE_CHANGE],
    "types of heads": [*(look[1] for look in style.HEAD_TYPES.values()), style.PHASE_CHANGE],
    "a line and remarks": [style.LINE, style.GREY, style.PHASE_CHANGE],
    "a path": [*style.DEPTH_SCALE[::3], style.FAINT, style.PHASE_CHANGE],
    "bars and points": [style.PALE, *style.CATEGORIES],
}
LINES = {style.LINE, style.GREY, *style.CATEGORIES, *(look[1] for look in style.HEAD_TYPES.values())}


@pytest.mark.parametrize("name", TOGETHER)
def test_colours_used_together_can_be_told_apart(name: str) -> None:
    for first, second in combinations(TOGETHER[name], 2):
        assert difference(first, second) >= LEAST_DIFFERENCE, f"{first} and {second}"


def test_lines_stand_out_on_white() -> None:
    for colour in {*LINES, *scale_colours(style.DEPTH_SCALE), *scale_colours(style.TRAINING_SCALE)}:
        assert contrast(colour) >= LEAST_CONTRAST, colour


@pytest.mark.parametrize("vision", VISION)
def test_scales_with_an_order_become_steadily_darker(vision: str) -> None:
    for scale in (style.DEPTH_SCALE, style.TRAINING_SCALE, style.LOSS_SCALE):
        lightness = [lab(colour, vision)[0] for colour in scale_colours(scale, 41)]
        assert (np.diff(lightness) < 0).all(), scale
        assert lightness[0] - lightness[-1] > 40


@pytest.mark.parametrize("vision", VISION)
def test_the_two_sides_of_a_signed_scale_differ_and_zero_is_the_lightest(vision: str) -> None:
    colours = scale_colours(style.DERIVATIVE_SCALE, 41)
    lightness = [lab(colour, vision)[0] for colour in colours]
    assert int(np.argmax(lightness)) == 20
    for below, above in zip(colours[:11], colours[:-12:-1], strict=True):
        assert np.linalg.norm(lab(below, vision) - lab(above, vision)) >= LEAST_DIFFERENCE


def test_the_simulation_agrees_with_what_is_known() -> None:
    """Greys stay grey, red and green come close for those who lack one of their cones, and white has no contrast."""
    for vision in VISION:
        assert np.abs(lab("#808080", vision)[1:]).max() < 0.5
    red, green = "#B04040", "#5F7F20"
    apart = {vision: float(np.linalg.norm(lab(red, vision) - lab(green, vision))) for vision in VISION}
    assert min(apart, key=lambda vision: apart[vision]) in ("protanopia", "deuteranopia")
    assert apart["deuteranopia"] < apart["all three kinds of cones"] / 3
    assert contrast("#FFFFFF") == pytest.approx(1)
    assert contrast("#000000") == pytest.approx(21)


def test_a_foreign_colour_is_noticed() -> None:
    assert is_of_the_style("rgba(3, 70, 214, 0.2)")
    assert not is_of_the_style("#FF0000")
