"""The viewer as a page: one HTML file that needs nothing else, or an inline frame of a notebook."""

import base64
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from ih_lens.atomic import write_bytes
from ih_lens.validate import at_least
from ih_lens.viz.viewer.heads_on_text import HeadsOnText
from ih_lens.viz.viewer.triangles import Triangle
from ih_lens.viz.visible_tokens import visible_token

_NOTEBOOK_BYTES = 100_000_000
"""Pages larger than this are not put into a notebook, which would be slow to save and to open ever after."""
_SCRIPTS = ("data.js", "panel.js", "view.js")


@dataclass(frozen=True, repr=False)
class InductionView:
    """A text with attention and logit attribution of every head, to look at.

    Shows itself in notebooks, in an inline frame; `save` writes a page of its own. Neither ever asks the network.

    Attributes:
        data: what is shown.
        title: heading.
        height: of the frame in a notebook, pixels.
    """

    data: HeadsOnText
    title: str
    height: int = 720

    def to_html(self) -> str:
        """The page.

        Examples:
            >>> len(view.to_html())  # characters, and bytes but for those that are not ASCII
        """
        data, scripts = self.data, "\n".join(_asset(name) for name in _SCRIPTS)
        masked = " (attention from some of them only)" if "destinations" in data.attrs else ""
        return Template(_asset("page.html")).substitute(
            title=escape(self.title),
            subtitle=escape(
                f"{len(data.ids):,} tokens{masked}, {len(data.heads):,} head{'s' * (len(data.heads) != 1)}"
            ),
            style=_asset("page.css"),
            script=f"(() => {{\n{scripts}}})();",
            record=_inert(json.dumps(self._record(), ensure_ascii=False)),
            thumbnails=_base64(zlib.compress(data.thumbnails.numpy().tobytes())),
            matrices="\n".join(_matrices(data)),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page as one file that needs no other and no network, in one step.

        Examples:
            >>> view.save("view.html")
            PosixPath('view.html')
        """
        write_bytes(Path(path), self.to_html().encode(errors="backslashreplace"))
        return Path(path)

    @property
    def n_bytes(self) -> int:
        """Size of the page, to a few thousand bytes."""
        triangles = [*self.data.patterns, *(self.data.attributions or ())]
        return 60_000 + sum((4 * (len(of.packed) + 4 * len(of.extremes))) // 3 for of in triangles)

    def _record(self) -> dict[str, object]:
        data = self.data
        scores = {name: [None if math.isnan(value) else value for value in of] for name, of in data.scores.items()}
        return {
            "tokens": [_shown(text) for text in data.texts],
            "only_ids": list(data.texts) == [str(number) for number in data.ids],
            "heads": [str(head) for head in data.heads],
            "scores": {name.replace("_", " "): values for name, values in scores.items()},
            "not_attributed": data.not_attributed,
            "thumbnail": data.thumbnails.shape[-1],
        }

    def __repr__(self) -> str:
        size = f"{self.n_bytes / 1e6:.1f} MB"
        return (
            f"InductionView({self.title!r}: {len(self.data.ids)} tokens, {len(self.data.heads)} heads, page of {size})"
        )

    def _repr_html_(self) -> str:
        """A frame with the page in it."""
        if self.n_bytes > _NOTEBOOK_BYTES:
            size, most = (f"{number / 1e6:.0f} MB" for number in (self.n_bytes, _NOTEBOOK_BYTES))
            return (
                f"<p>This view is {size}, more than the {most} that are put into a notebook. Write it to a file, "
                '<code>.save("view.html")</code>, or make one of fewer heads, <code>heads=[...]</code>.</p>'
            )
        page = self.to_html().replace("&", "&amp;").replace('"', "&quot;")
        style = f"width:100%;height:{self.height}px;border:1px solid #8884;border-radius:6px"
        return f'<iframe srcdoc="{page}" title="{escape(self.title)}" style="{style}" allowfullscreen></iframe>'


def induction_view(heads_on_text: HeadsOnText, *, title: str | None = None, height: int = 720) -> InductionView:
    """The viewer of a result that was measured before: `ih_lens.induction_view(...).data`.

    Args:
        heads_on_text: as measured, or as `HeadsOnText.load` read it.
        title: heading; the model's name by default.
        height: of the frame in a notebook, pixels.

    Examples:
        >>> ih.viz.induction_view(view.data, title="The same again").save("view.html")
        PosixPath('view.html')
    """
    name = str(heads_on_text.attrs.get("model") or "") or "What heads do on a text"
    return InductionView(heads_on_text, name if title is None else title, at_least("height", height, 200))


def _shown(text: str) -> str:
    """A token with white space made visible, and a line break after the sign of each line break."""
    return visible_token(text).replace("↵", "↵\n") if "\n" in text else visible_token(text)


def _matrices(data: HeadsOnText) -> Iterator[str]:
    for kind, triangles in (("pattern", data.patterns), ("attribution", data.attributions or ())):
        for place, triangle in enumerate(triangles):
            yield f'<script type="text/plain" id="{kind}-{place}">{_encoded(triangle)}</script>'


def _encoded(triangle: Triangle) -> str:
    return f"{_base64(triangle.extremes.numpy().astype('<f4').tobytes())} {_base64(triangle.packed)}"


def _inert(text: str) -> str:
    """JSON that ends no script element."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _asset(name: str) -> str:
    return files("ih_lens.viz.viewer").joinpath("assets", name).read_text(encoding="utf8")
