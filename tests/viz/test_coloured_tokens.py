"""Coloured texts: colours and numbers are those of the input, and no token acts."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.viz import style
from ih_lens.viz.coloured_tokens import coloured_tokens
from tests.viz.colours import VISION, contrast, lab

HOSTILE = [
    "</style></form><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "&lt;",
]


class Token(NamedTuple):
    text: str
    colour: str
    says: str


class _Reader(HTMLParser):
    """What a browser would make of it: the tokens, every element, and the line breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[Token] = []
        self.elements: list[str] = []
        self._inside: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        found = dict(attrs)
        assert not any(name.startswith("on") for name in found)
        if found.get("class") == "t":
            self._inside = found
            self._text = ""

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._inside is not None:
            colour = re.search(r"background:(#\w{6})", str(self._inside["style"]))
            assert colour
            self.tokens.append(Token(self._text, colour.group(1), str(self._inside["data-says"])))
            self._inside = None


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def expected_colour(value: float, limit: float) -> list[int]:
    """Slowly: a straight line from white to the colour of the sign."""
    full = style.BELOW_ZERO if value < 0 else style.ABOVE_ZERO
    share = min(abs(value) / limit, 1)
    return [round(255 + share * (int(full[i : i + 2], 16) - 255)) for i in (1, 3, 5)]


def test_colours_and_numbers_are_those_given() -> None:
    values = torch.linspace(-2, 3, 41)
    tokens = read(coloured_tokens([f" {n}" for n in range(41)], values, unit="logits")._repr_html_()).tokens
    assert [token.text for token in tokens] == [f"·{n}" for n in range(41)]
    for token, value in zip(tokens, values.tolist(), strict=True):
        assert [int(token.colour[i : i + 2], 16) for i in (1, 3, 5)] == expected_colour(value, 3.0)
        shown = re.search(r"value (\S+) logits", token.says)
        assert shown
        assert float(shown.group(1).replace("−", "-")) == pytest.approx(value, abs=0.005)


def test_beyond_the_limit_the_colour_is_full() -> None:
    tokens = read(coloured_tokens(["a", "b", "c"], [0.5, -9.0, 0.25], limit=0.5)._repr_html_()).tokens
    assert [token.colour for token in tokens[:2]] == [style.ABOVE_ZERO, style.BELOW_ZERO]
    assert "−9" in tokens[1].says


def test_what_is_no_number_is_grey() -> None:
    page = coloured_tokens(["a", "b"], [float("nan"), 1.0])._repr_html_()
    assert read(page).tokens[0].colour == style.UNDEFINED
    assert "none" in read(page).tokens[0].says
    assert "no value" in page
    assert "no value" not in coloured_tokens(["a"], [1.0])._repr_html_()
    assert read(coloured_tokens(["a"], [0.0])._repr_html_()).tokens[0].colour == "#FFFFFF"


def test_tokens_do_nothing_but_show() -> None:
    reader = read(coloured_tokens(HOSTILE, [1.0] * 4, title=HOSTILE[0], unit=HOSTILE[1]).document)
    assert [token.text.replace("·", " ") for token in reader.tokens] == HOSTILE
    assert not {"script", "img", "a", "link", "iframe"} & set(reader.elements)
    assert reader.elements.count("span") >= 4


def test_line_breaks_break_lines() -> None:
    reader = read(coloured_tokens(["a\n", "\n\n", "b"], [1.0, 1.0, 1.0])._repr_html_())
    assert [token.text for token in reader.tokens] == ["a↵", "↵↵", "b"]
    assert reader.elements.count("br") == 3


def test_several_kinds() -> None:
    values = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    page = coloured_tokens(["a", "b"], values, labels=["first", "second"])._repr_html_()
    tokens = read(page).tokens
    assert [[int(token.colour[i : i + 2], 16) for i in (1, 3, 5)] for token in tokens] == [
        expected_colour(value, 2.0) for value in values.flatten().tolist()
    ]
    assert tokens[0].says == "0: a   first 1   second 0.5"
    assert read(page).elements.count("input") == 2


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ih.InputError, match="one per token"):
        coloured_tokens(["a"], [1.0, 2.0])
    with pytest.raises(ih.InputError, match="labels: expected 2"):
        coloured_tokens(["a"], torch.ones(2, 1))
    with pytest.raises(ih.InputError, match="1 to 20,000"):
        coloured_tokens(["a"] * 20_001, [0.0] * 20_001)
    with pytest.raises(ih.InputError, match="1 to 20,000"):
        coloured_tokens([], [])
    with pytest.raises(ih.InputError, match="limit"):
        coloured_tokens(["a"], [1.0], limit=0.0)


def test_saved_in_one_step_under_a_name_of_a_page(tmp_path: Path) -> None:
    view = coloured_tokens(["naïve", "汉"], [1.0, 2.0])
    path = view.save(tmp_path / "new" / "tokens.html")
    assert path.read_text(encoding="utf8") == view.document
    assert [entry.name for entry in path.parent.iterdir()] == ["tokens.html"]
    assert repr(view) == "LocalHTML('Tokens by value'; 0.00 MB)"
    with pytest.raises(ih.InputError, match=r"does not end in \.html"):
        view.save(tmp_path / "tokens.png")


@pytest.mark.parametrize("vision", VISION)
def test_both_signs_and_no_number_can_be_told_apart(vision: str) -> None:
    colours = [style.ABOVE_ZERO, style.BELOW_ZERO, style.UNDEFINED, "#FFFFFF"]
    for place, first in enumerate(colours):
        for second in colours[place + 1 :]:
            least = 14 if style.UNDEFINED in (first, second) else 20
            assert np.linalg.norm(lab(first, vision) - lab(second, vision)) >= least, (first, second)
    for colour in colours:
        assert contrast(style.TEXT) / contrast(colour) >= 4.5
