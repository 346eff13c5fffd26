"""Tokens as a reader sees them."""

import sys
import unicodedata

import pytest

from ih_lens.viz.visible_tokens import visible_token, visible_tokens


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the", "·the"),
        ("\n\n", "↵↵"),
        ("\t", "→"),
        ("\r\n", "␍↵"),
        ("\x00\x1f\x7f", "␀␟␡"),
        ("", "∅"),
        ("\ufffd", "\ufffd"),
        ("naïve 汉", "naïve·汉"),
        ("\u00a0", r"\xa0"),
        ("\u202e", r"\u202e"),
        ("\U000e0001", r"\U000e0001"),
        ("\u0301a", "◌\u0301a"),
        ("<script>", "<script>"),
        ("\ud800", r"\ud800"),
    ],
)
def test_signs(text: str, shown: str) -> None:
    assert visible_token(text) == shown


def test_every_character_is_seen() -> None:
    for number in range(sys.maxunicode + 1):
        shown = visible_token(chr(number))
        assert shown
        assert not any(character.isspace() or unicodedata.category(character)[0] == "C" for character in shown)
        shown.encode("utf8")


def test_each_token_on_its_own() -> None:
    assert visible_tokens([" a", "", "b"]) == ["·a", "∅", "b"]
