"""Whatever tokens, names and provenance are, no page that the library writes takes them for markup or runs them.

What figures show of them: `tests/viz/test_plotly_text.py`.
"""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import pytest
import torch

import ih_lens as ih
from ih_lens import viz
from ih_lens.clamp_demo.findings import Finding
from ih_lens.clamp_demo.page import findings_page
from ih_lens.viz.viewer.view import InductionView
from tests.viz.text_heads import random_heads

if TYPE_CHECKING:
    from selenium import webdriver

_RUNS = "window.top.pwned=window.pwned=1"
HOSTILE = [
    f"<script>{_RUNS}</script>", "</script>", f"</script><script>{_RUNS}</script>", "<!--", "-->", "]]>", "<![CDATA[",
    f"<img src=x onerror={_RUNS}>", f'" onmouseover="{_RUNS}" class="pwned', f"' onfocus='{_RUNS}' autofocus='", "&lt;",
    f"<svg/onload={_RUNS}>", f'<a href="javascript:{_RUNS}">x</a>', "</title><b class=pwned>", "</textarea></style>",
    f"<iframe srcdoc='<script>{_RUNS}</script>'>", "`", "${window.pwned=1}", "$title", "{0}", "%{x}", "\\u003c", "\\",
    "\u2028", "\u2029", "\u202e", "\u200b", "\ufeff", "\0", "\x1b[31m", "\x08", "\r\n", "\ud800", "'", '"', "=1+1",
]  # fmt: skip
TITLE = f'</title></script><script>{_RUNS}</script><img src=x onerror="{_RUNS}">'
_NUMBERS = [0.5, -1.0, 0.0] * (len(HOSTILE) // 3) + [1.0] * (len(HOSTILE) % 3)


def _coloured() -> viz.LocalHTML:
    values = torch.tensor([_NUMBERS, _NUMBERS[::-1]])
    return viz.coloured_tokens(HOSTILE, values, labels=[TITLE, "other"], title=TITLE, unit=TITLE)


def _attention() -> viz.LocalHTML:
    return viz.attention_heads(random_heads(HOSTILE)[0], title=TITLE)


def _view() -> InductionView:
    return viz.induction_view(random_heads(HOSTILE)[0], title=TITLE)


def _figure() -> go.Figure:
    figure = go.Figure(
        [go.Scatter(x=[1, 2], y=[1, 2], name=TITLE, text=[TITLE, "x"], hovertemplate=TITLE, mode="text")]
    )
    return figure.update_layout(title=TITLE, xaxis_title=TITLE, showlegend=True)


def _clamping() -> str:
    return findings_page([Finding(TITLE, TITLE, TITLE)], {"x": (TITLE, _figure())}, introduction=TITLE)


def _scores() -> ih.HeadScores:
    described = {"range": (0, 1), "measured_on": TITLE}
    return ih.HeadScores.from_tensors(
        {"prefix_matching": torch.zeros(1, 2)}, provenance={"model": TITLE}, attributes={"prefix_matching": described}
    )


def _exported(folder: Path) -> str:
    return viz.save_figure(_figure(), folder / "figure.html").read_text(encoding="utf8")


PAGES: dict[str, Callable[[Path], str]] = {
    "coloured tokens": lambda _: _coloured().document,
    "coloured tokens in a notebook": lambda _: _coloured()._repr_html_(),  # pyright: ignore[reportPrivateUsage]
    "coloured tokens saved": lambda folder: _coloured().save(folder / "a.html").read_text(encoding="utf8"),
    "attention heads": lambda folder: _attention().save(folder / "a.html").read_text(encoding="utf8"),
    "attention heads in a notebook": lambda _: _attention()._repr_html_(),  # pyright: ignore[reportPrivateUsage]
    "viewer": lambda folder: _view().save(folder / "a.html").read_text(encoding="utf8"),
    "viewer in a notebook": lambda _: _view()._repr_html_(),  # pyright: ignore[reportPrivateUsage]
    "clamp demo": lambda _: _clamping(),
    "scores in a notebook": lambda _: _scores()._repr_html_(),  # pyright: ignore[reportPrivateUsage]
    "figure": _exported,
}
WRITERS = {
    "clamp_demo/page.py": "here",
    "report/behaviours.py": "a table of pandas, which escapes",
    "report/explain_head.py": "names of heads and numbers only, escaped",
    "report/page.py": "tests/report/test_page.py, test_names_are_text_and_never_markup",
    "report/summary.py": "tests/report/test_page.py, test_names_are_text_and_never_markup",
    "report/table.py": "tests/report/test_page.py",
    "results.py": "here",
    "viz/attention_heads.py": "here",
    "viz/coloured_tokens.py": "here",
    "viz/export.py": "here",
    "viz/local_html.py": "here",
    "viz/viewer/view.py": "here",
}
"""Every module that makes HTML, and where it meets hostile texts; a new one is entered here with a page above."""
_MAKES_HTML = re.compile(
    r"def (_repr_html_|_repr_mimebundle_|to_html)\b|\.to_html\((full|include)|<(div|p|table|script|iframe|td)[ >]"
)


class _Page(HTMLParser):
    """What a browser would take for elements, attributes and scripts; frames are opened too."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.texts: list[str] = []
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = (given.get("type") or "code") if tag == "script" else None
        for name, value in given.items():
            if name.startswith("on") or "javascript:" in (value or "").lower().split('"')[0][:20]:
                self.wrong.append(f"<{tag} {name}={value!r}>")
            if name == "srcdoc" and value:
                self.wrong += parsed(value).wrong
        if "pwned" in (given.get("class") or "") or (tag in ("img", "iframe") and "srcdoc" not in given):
            self.wrong.append(f"<{tag} {attrs}>")

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._script in ("code", "module") and data.strip().startswith(_RUNS):
            self.wrong.append(f"a script {data[:80]!r}")


def parsed(page: str) -> _Page:
    """The page as a parser reads it."""
    parser = _Page()
    parser.feed(page)
    parser.close()
    return parser


def test_every_module_that_makes_html_is_known() -> None:
    root = Path(ih.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if _MAKES_HTML.search(path.read_text(encoding="utf8"))
    }
    assert found == set(WRITERS)


@pytest.mark.parametrize("name", PAGES)
def test_no_text_becomes_markup(name: str, tmp_path: Path) -> None:
    assert not [wrong for wrong in parsed(PAGES[name](tmp_path)).wrong if "modebar" not in wrong]


def test_the_parser_sees_what_it_looks_for() -> None:
    seen = [text for text in HOSTILE if parsed(f"<p>{text}</p>").wrong]
    assert len(seen) >= 6


def test_texts_survive_csv_and_json(tmp_path: Path) -> None:
    for text in [*HOSTILE, TITLE]:
        if text != "\ud800":  # half a character is in no file of UTF-8
            scores = ih.HeadScores.from_tensors({"copying": torch.zeros(1, 2)}, provenance={"model": text})
            assert ih.HeadScores.load(scores.save(tmp_path / "scores.json")).attrs["model"] == text
    table = _scores().to_dataframe().to_csv(index=False)
    assert not re.search(r'(^|[,\n"])[=@+]', table)  # nothing that a spreadsheet takes for a formula


@pytest.mark.parametrize("name", ["coloured tokens", "attention heads", "viewer", "clamp demo"])
def test_nothing_runs_in_a_browser(name: str, browser: "webdriver.Chrome", tmp_path: Path) -> None:
    from tests.browser import open_file

    page = PAGES[name](tmp_path)
    (tmp_path / "page.html").write_bytes(page.encode(errors="backslashreplace"))
    open_file(browser, tmp_path / "page.html")
    framed = PAGES.get(f"{name} in a notebook")
    if framed is not None:
        inline = f"<!doctype html><meta charset=utf-8>{framed(tmp_path)}"
        (tmp_path / "notebook.html").write_bytes(inline.encode(errors="backslashreplace"))
    for file in sorted(tmp_path.glob("*[ek].html")):
        open_file(browser, file)
        browser.execute_async_script("setTimeout(arguments[0], 500)")
        assert browser.execute_script("return window.pwned") is None, file
        assert (
            browser.execute_script("return document.querySelectorAll('.pwned, [onmouseover], [onfocus]').length") == 0
        )
        assert not browser.execute_script("return [...document.links].some(link => /javascript/i.test(link.protocol))")
        if name in ("coloured tokens", "viewer") and file.stem == "page":
            shown = browser.execute_script("return document.body.textContent")
            for text in (f"<script>{_RUNS}</script>", "&lt;", "${window.pwned=1}", "$title", "<!--"):
                assert text in shown
