"""Tokens as a reader can see them: spaces, line breaks and control characters become signs."""

import unicodedata
from collections.abc import Sequence

NOTHING = "∅"
"""Stands for a token of no text."""

_SIGNS = {" ": "·", "\n": "↵", "\t": "→", "\u2028": "↵", "\u2029": "↵", "\x7f": "␡"}
_CONTROL_PICTURES = 0x2400
_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zs"}
"""Unicode categories without a shape of their own: controls, directions, halves of characters, odd spaces."""
_CARRIER = "◌"


def visible_token(text: str) -> str:
    r"""One token with a sign for everything that would not be seen, or would change what stands around it.

    A space becomes ·, a line break ↵, a tab →, other ASCII controls their control picture (such as ␍), an empty
    text ∅. Characters without a shape, such as those that turn the direction of writing, are written as \u202e;
    an accent that belongs to the token before it sits on ◌. Everything else stays, the replacement character too.

    Args:
        text: of one token.

    Returns:
        A text of the same meaning that is never empty and holds no white space; it is not escaped for HTML.

    Examples:
        >>> visible_token(" the\n")
        '·the↵'
    """
    shown = "".join(map(_visible, text)) or NOTHING
    return _CARRIER + shown if unicodedata.category(shown[0])[0] == "M" else shown


def visible_tokens(texts: Sequence[str]) -> list[str]:
    """`visible_token` of each.

    Examples:
        >>> visible_tokens(["a", " b", ""])
        ['a', '·b', '∅']
    """
    return [visible_token(text) for text in texts]


def _visible(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    number = ord(character)
    if number < 0x20:
        return chr(_CONTROL_PICTURES + number)
    if unicodedata.category(character) not in _ESCAPED:
        return character
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
