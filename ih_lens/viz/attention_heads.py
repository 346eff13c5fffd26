"""Attention patterns of heads to hover over: the component of circuitsvis, from the copy on this machine."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import InputError
from ih_lens.results import to_numpy
from ih_lens.types import HeadIndex, HeadSpelling
from ih_lens.validate import at_least
from ih_lens.viz import style
from ih_lens.viz.local_html import LocalHTML, framed, inert_json, page
from ih_lens.viz.viewer.heads_on_text import HeadsOnText
from ih_lens.viz.visible_tokens import visible_tokens

MOST_NUMBERS = 2**17
"""Of all patterns shown together: circuitsvis draws every number as an object of its own, and twice as many take
seconds at every movement of the mouse."""
_MOST_HEADS = 12
_DIGITS = 4
_HEIGHT = 900

_STYLE = f"""<style>
body{{margin:8px;background:#fff;color:{style.TEXT};font:13px/1.45 Helvetica,Arial,sans-serif}}
p{{max-width:1110px;margin:0 auto 4px}} h3{{font-size:14px}}
#view h2,#view h4{{background:{style.LINE}!important;color:#fff!important;font-size:12px}} #view h2{{font-size:15px}}
</style>"""

_LOADER = """<script>
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  const packed = Uint8Array.from(atob(text("library")), (character) => character.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  CircuitsVis.render("view", CircuitsVis.AttentionHeads, JSON.parse(text("data")));
  const frame = window.frameElement;
  if (frame) {
    const fit = () => { frame.style.height = Math.ceil(document.body.getBoundingClientRect().height + 24) + "px"; };
    new ResizeObserver(fit).observe(document.body);
  }
})().catch((error) => { document.getElementById("view").textContent = "This browser cannot show it: " + error; });
</script>"""


def attention_heads(
    patterns: Float[Tensor, "head dest src"] | Float[Tensor, "layer head dest src"] | HeadsOnText,
    tokens: Sequence[str] | None = None,
    *,
    heads: Sequence[HeadSpelling] | None = None,
    scores: xr.DataArray | None = None,
    max_heads: int | None = None,
    title: str = "Attention patterns",
) -> LocalHTML:
    """Attention patterns as pictures: hover a head to enlarge it, click to keep it, hover a cell for its number.

    The drawing is circuitsvis's `attention_heads`. Its own way to show itself asks google.com whether there is a
    network, and then loads its script from elsewhere; here the script comes from the installed package and nothing is
    ever asked for. Each view carries it compressed, 0.5 MB in place of 1.3, in a frame of its own: a view that
    borrowed it from another cell would be empty once that cell is cleared, moved or run later.

    All heads share one scale of colours, from white at 0 to blue at the largest number. Numbers are rounded to four
    digits. For more tokens, or for logit attribution beside attention, there is `ih_lens.induction_view`.

    Args:
        patterns: attention [head, dest, src] with `heads`, or of all heads of a model [layer, head, dest, src], or
            the `.data` of an `induction_view`.
        tokens: texts of the tokens, such as `token_texts` gives; they come with the data of a viewer.
        heads: which heads the patterns belong to, or which of all heads to show: "L5H1", (5, 1).
        scores: [layer, head], such as `scores["prefix_matching"]`, to sort by, highest first; otherwise the order is
            that of the patterns.
        max_heads: show only the first so many. By default 12, or fewer where the text is long.
        title: heading.

    Raises:
        InputError: if patterns, tokens, heads and scores do not belong together, a number is NaN, or there is more
            than a browser draws without freezing: 131,072 numbers, which is one head at 362 tokens, 8 at 128.

    Examples:
        >>> _, cache = model.run_with_cache(tokens[:1, :40])
        >>> patterns = torch.stack([cache["pattern", layer][0] for layer in range(model.cfg.n_layers)])
        >>> texts = ih.token_texts(model, tokens[0, :40])
        >>> ih.viz.attention_heads(patterns, texts, scores=scores["prefix_matching"]).save("heads.html")
        PosixPath('heads.html')
    """
    available, texts = _available(patterns, tokens, heads)
    order = _sorted(list(available), scores)
    shown = order[: _n_shown(len(order), len(texts), max_heads)]
    numbers = np.stack([_matrix(patterns, available[head]) for head in shown])
    if numbers.shape[1:] != (len(texts), len(texts)):
        raise InputError(f"expected one row and column per token, {len(texts)}, got patterns of {numbers.shape[1:]}")
    if not np.isfinite(numbers).all():
        raise InputError("the patterns hold NaN or infinity, which no colour stands for; look at the model's weights")
    largest = float(np.abs(numbers).max()) or 1.0
    properties = {
        "attention": np.round(numbers, _DIGITS).tolist(),
        "attentionHeadNames": [str(head) for head in shown],
        "tokens": visible_tokens(texts),
        "maxValue": largest,
        "minValue": min(0.0, float(numbers.min())) and -largest,
        "negativeColor": style.BELOW_ZERO,
        "maskUpperTri": not np.triu(numbers, 1).any(),
    }
    caption = _caption(shown, len(order), scores, numbers)
    body = (
        f'<p><strong>{escape(title)}</strong></p><p>{escape(caption)}</p><div id="view"></div>'
        f'<script type="application/json" id="data">{inert_json(properties)}</script>'
        f'<script type="text/plain" id="library">{_library()}</script>{_LOADER}'
    )
    document = page(title, body, head=_STYLE)
    return LocalHTML(title, document, framed(title, document, _HEIGHT))


def _available(
    patterns: Tensor | HeadsOnText, tokens: Sequence[str] | None, heads: Sequence[HeadSpelling] | None
) -> tuple[Mapping[HeadIndex, HeadIndex | int], Sequence[str]]:
    """The heads that may be shown, each with its place in the patterns; and the texts."""
    if not isinstance(patterns, HeadsOnText) and not (isinstance(patterns, Tensor) and patterns.ndim in (3, 4)):
        came = f"{tuple(patterns.shape)}" if isinstance(patterns, Tensor) else type(patterns).__name__
        raise InputError(
            f"patterns: expected a tensor [head, dest, src] or [layer, head, dest, src], or a viewer's data, got {came}"
        )
    named = None if heads is None else [HeadIndex.parse(head) for head in heads]
    if isinstance(patterns, HeadsOnText):
        there: Mapping[HeadIndex, HeadIndex | int] = {head: head for head in patterns.heads}
        texts = patterns.texts if tokens is None else tokens
    elif tokens is None:
        raise InputError("tokens: expected the text of each token, which patterns alone do not have")
    elif patterns.ndim == 4:
        n_layers, n_heads = patterns.shape[:2]
        indices = [HeadIndex(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        there, texts = {head: head for head in indices}, tokens
    else:
        if named is None or len(set(named)) != len(patterns) or len(named) != len(patterns):
            raise InputError(
                f"heads: expected the {len(patterns)} different heads that the patterns belong to, got {heads}"
            )
        return {head: place for place, head in enumerate(named)}, tokens
    chosen = list(there) if named is None else named
    if missing := [str(head) for head in chosen if head not in there]:
        raise InputError(f"heads: the patterns have no {', '.join(missing)}; they go to {list(there)[-1]}")
    return {head: there[head] for head in chosen}, texts


def _sorted(heads: list[HeadIndex], scores: xr.DataArray | None) -> list[HeadIndex]:
    """Highest score first, NaN last."""
    if scores is None:
        return heads
    if scores.dims != ("layer", "head") or any(
        head.layer >= scores.sizes["layer"] or head.head >= scores.sizes["head"] for head in heads
    ):
        raise InputError(
            f"scores: expected one number per head [layer, head] of this model, got {dict(scores.sizes)}; choose one "
            "snapshot with .isel first"
        )
    grid = np.nan_to_num(scores.to_numpy().astype(float), nan=-np.inf)
    return sorted(heads, key=lambda head: -grid[head])


def _n_shown(n_heads: int, n_tokens: int, max_heads: int | None) -> int:
    """How many heads fit, or the number asked for."""
    fitting = MOST_NUMBERS // max(n_tokens, 1) ** 2
    wanted = n_heads if max_heads is None else min(n_heads, at_least("max_heads", max_heads, 1))
    shown = min(wanted, _MOST_HEADS, fitting) if max_heads is None else wanted
    if not n_heads or not n_tokens:
        raise InputError("expected at least one head and one token, got none")
    if shown == 0 or shown > fitting:
        advice = f"show max_heads={fitting}, or fewer tokens" if fitting else "show fewer tokens"
        raise InputError(
            f"{wanted} head{'s' * (wanted > 1)} on {n_tokens} tokens are {wanted * n_tokens**2:,} numbers, and "
            f"circuitsvis freezes the browser beyond {MOST_NUMBERS:,}; {advice}, or use ih_lens.induction_view, which "
            "is made for 1,024 tokens"
        )
    return shown


def _matrix(patterns: Tensor | HeadsOnText, place: HeadIndex | int) -> Float[np.ndarray, "dest src"]:
    found = patterns.pattern(place) if isinstance(patterns, HeadsOnText) else patterns[place]  # pyright: ignore[reportArgumentType]
    return to_numpy(found).astype(np.float64)


def _caption(
    shown: Sequence[HeadIndex], n_heads: int, scores: xr.DataArray | None, numbers: Float[np.ndarray, "head dest src"]
) -> str:
    """What is shown, in words."""
    measure = "" if scores is None else str(scores.name or "score").replace("_", " ")
    if len(shown) == n_heads:
        which = f"{n_heads} head{'s' * (n_heads > 1)}" + f", sorted by {measure}" * bool(measure)
    else:
        chosen = f"those with the highest {measure}" if measure else "the first"
        which = f"{len(shown)} of {n_heads} heads, {chosen}"
    listed = [str(head) if scores is None else f"{head} {float(scores.to_numpy()[head]):.3g}" for head in shown]
    low = f"{numbers.min():.3g} orange, " if numbers.min() < 0 else ""
    scale = f"{low}0 white, {numbers.max():.3g} blue, one scale for all heads"
    return f"{which}: {', '.join(listed)}. Rows attend to columns: {scale}."


@cache
def _library() -> str:
    """The script of circuitsvis, compressed, as text."""
    script = (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_bytes()
    return base64.b64encode(zlib.compress(script, 9)).decode()
