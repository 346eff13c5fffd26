"""Texts from outside in figures: plotly takes titles, names, labels and hovering texts for its own markup."""

_SIGNS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
"""Of entities and tags, and of formulas where a page has MathJax."""


def literal(text: object) -> str:
    """A text that plotly draws as it stands, wherever it takes markup: `<b>`, `<a href=...>`, `%{x}` or `$x$` too.

    Every name, label or token that a caller or a file gives passes through here once, where it enters the figure;
    tokens through `visible_token` before. Texts without such signs stay as they are.

    Args:
        text: any; what is no text is written as `str` does.

    Examples:
        >>> literal("a<b>c</b> %{x} 5 %")
        'a&lt;b&gt;c&lt;/b&gt; &#37;{x} 5 %'
    """
    return "".join(_SIGNS.get(sign, sign) for sign in str(text)).replace("%{", "&#37;{")
