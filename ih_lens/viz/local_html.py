"""HTML of our own to look at in notebooks or as a file, which never asks the network for anything."""

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ih_lens.atomic import write_bytes
from ih_lens.errors import InputError


@dataclass(frozen=True, repr=False)
class LocalHTML:
    """Something to look at that is HTML; notebooks show it, `save` writes it as a file of its own.

    Attributes:
        title: what it shows, in a few words.
        document: the stand-alone page.
        inline: what a notebook puts into its own page.
    """

    title: str
    document: str
    inline: str

    def save(self, path: str | Path) -> Path:
        """Write one file that any browser shows without network, in one step.

        Raises:
            InputError: if the name does not end in .html.

        Examples:
            >>> coloured_tokens(["a", " b"], [0.5, -1.0]).save("tokens.html")
            PosixPath('tokens.html')
        """
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{path} does not end in .html, and this is a page; name it so")
        write_bytes(Path(path), self.document.encode(errors="backslashreplace"))
        return Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}; {len(self.document) / 1e6:.2f} MB)"

    def _repr_html_(self) -> str:
        return self.inline


def page(title: str, body: str, *, head: str = "") -> str:
    """A stand-alone page around a body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{head}</head>\n<body>{body}</body></html>\n"
    )


def framed(title: str, document: str, height: int) -> str:
    """A page inside another, so that neither's styles and scripts touch the other's."""
    inner = document.replace("&", "&amp;").replace('"', "&quot;")
    style = f"width:100%;height:{height}px;border:0;background:white"
    return f'<iframe title="{escape(title)}" style="{style}" srcdoc="{inner}"></iframe>'


def inert_json(data: Any) -> str:
    """JSON that no <script> element mistakes for its end, whatever the texts in it are."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
