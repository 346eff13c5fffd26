"""The viewer of one text: measures every head on it, then draws."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ih_lens.data.start_tokens import choose_start_token
from ih_lens.data.text_examples import text_encoder
from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.measure.text_heads import HeadRows, attribution_obstacle, visit_text_heads
from ih_lens.models.token_texts import token_texts
from ih_lens.progress import progress_bar
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import head_index, token_batch
from ih_lens.viz.viewer.heads_on_text import HeadsOnText
from ih_lens.viz.viewer.triangles import Thumbnails, Triangle, TrianglePacker
from ih_lens.viz.viewer.view import InductionView
from ih_lens.viz.viewer.view import induction_view as draw

PREFIX_MATCHING, ATTRIBUTION = "prefix matching on this text", "logits added on this text"
"""Names of the scores that the text itself gives."""


def induction_view(
    model: ModelLike,
    text_or_tokens: str | Tensor,
    *,
    heads: Sequence[HeadSpelling] | None = None,
    scores: HeadScores | None = None,
    bos: int | str | None = "auto",
    title: str | None = None,
    progress: bool = True,
) -> InductionView:
    """A text with, for any head, where each token attends (red) and which tokens raised its logit (blue).

    The paper's viewer: hover a token to look from it, click to lock it, choose heads at the left. It shows itself
    in a notebook, and `.save("view.html")` writes a page that needs no network.

    Args:
        model: any HookedTransformer. Where its logits are no sums over heads (`capabilities(model).direct_path`),
            the page shows attention only and says why.
        text_or_tokens: a text, for the model's own tokenizer; or ids [pos] or [1, pos], taken as they are.
        heads: these, like "L1H4" or (1, 4); all by default.
        scores: of `score_heads`, to sort heads by. Scores on the text itself are always there: attention to the
            tokens after earlier occurrences of the same token (prefix matching), and the mean logits that a head
            adds to the tokens that actually come next.
        bos: start token of a text: "auto" for the tokenizer's, an id, or None for none. Ids are given theirs by
            whoever made them.
        title: heading of the page; the model's name by default.
        progress: show a bar on a terminal or in a notebook.

    Returns:
        The view; its `.data` holds what it shows, each entry to within 1/255 of the largest magnitude in its row.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if the model cannot read the text or the ids, or has no such heads.

    Examples:
        >>> view = induction_view(model, "Mr Dursley met Mrs Dursley.", scores=score_heads(model))
        >>> view.save("view.html")
        PosixPath('view.html')
    """
    tokens = _tokens(model, text_or_tokens, bos)
    obstacle = attribution_obstacle(model, tokens)
    chosen = _chosen(model, heads)
    collected = _Collector(tokens[0], chosen, attributed=obstacle is None)
    layers = sorted({head.layer for head in chosen})
    with progress_bar(f"attention of {len(layers)} layers", total=len(layers), show=progress) as done:
        collected.done = done
        scale = visit_text_heads(model, tokens, collected.add, layers=layers, attributed=obstacle is None)
    patterns, attributions = collected.triangles(scale)
    data = HeadsOnText(
        ids=tuple(tokens[0].tolist()),
        texts=tuple(token_texts(model, tokens[0])),
        heads=tuple(chosen),
        patterns=patterns,
        attributions=attributions,
        not_attributed=obstacle or "",
        thumbnails=collected.pictures(),
        scores=collected.scores(scale),
        attrs=provenance(model, bos=bos if isinstance(text_or_tokens, str) else "as given"),
    )
    return draw(data if scores is None else data.with_scores(scores), title=title)


def _tokens(model: ModelLike, text_or_tokens: str | Tensor, bos: int | str | None) -> Int[Tensor, "1 pos"]:
    if isinstance(text_or_tokens, str):
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise InputError("the model has no tokenizer, so it cannot read a text; give token ids [pos] instead")
        start = choose_start_token(model, bos).id
        ids = text_encoder(tokenizer)([text_or_tokens])[0]
        tokens = torch.tensor([ids if start is None else [start, *ids]], dtype=torch.int64)
        what = "text: it has"
    elif isinstance(text_or_tokens, Tensor):
        tokens = text_or_tokens[None] if text_or_tokens.ndim == 1 else text_or_tokens
        what = "tokens: they are"
    else:
        raise InputError(f"expected a text or a tensor of token ids [pos], got {type(text_or_tokens).__name__}")
    if tokens.ndim == 2 and len(tokens) != 1:
        raise InputError(f"tokens: expected one text [pos] or [1, pos], got {len(tokens)}; choose one, like tokens[:1]")
    if tokens.ndim == 2 and not 2 <= tokens.shape[1] <= model.cfg.n_ctx:
        raise InputError(
            f"{what} {tokens.shape[1]} tokens, and the viewer needs 2 to {model.cfg.n_ctx}, the model's context"
        )
    return token_batch(tokens, d_vocab=model.cfg.d_vocab, n_ctx=model.cfg.n_ctx).detach().to("cpu", torch.int64)


def _chosen(model: ModelLike, heads: Sequence[HeadSpelling] | None) -> list[HeadIndex]:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    if heads is None:
        return [HeadIndex(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    if isinstance(heads, str):
        raise InputError(f"heads: expected a list of heads, got the text {heads!r}; write [{heads!r}]")
    chosen = list(dict.fromkeys(head_index(head, n_layers, n_heads) for head in heads))
    if not chosen:
        raise InputError("heads: expected at least one, got none; leave heads out for all of them")
    return chosen


class _Collector:
    """Packs the rows of chosen heads as they come, layer by layer, and sums up the text's own scores."""

    def __init__(self, ids: Int[Tensor, "pos"], chosen: Sequence[HeadIndex], *, attributed: bool) -> None:
        self._ids, self._chosen, self._attributed = ids, chosen, attributed
        self._targets = _prefix_targets(ids)
        self._layers: dict[int, _Layer] = {}
        self.done: Any = None

    def add(self, rows: HeadRows) -> None:
        """Take a block of rows."""
        if rows.layer not in self._layers:
            self._finish_layers()
            members = [head.head for head in self._chosen if head.layer == rows.layer]
            self._layers[rows.layer] = _Layer(members, len(self._ids))
        self._layers[rows.layer].add(rows, self._targets)

    def triangles(self, scale: Float[Tensor, "dest"]) -> tuple[tuple[Triangle, ...], tuple[Triangle, ...] | None]:
        """Patterns and attributions, final scale applied, of the chosen heads in their order."""
        self._finish_layers()
        patterns = tuple(self._of(head).patterns[self._row(head)] for head in self._chosen)
        if not self._attributed:
            return patterns, None
        unscaled = [self._of(head).attributions[self._row(head)] for head in self._chosen]
        return patterns, tuple(Triangle((of.extremes / scale).to(torch.float32), of.packed) for of in unscaled)

    def pictures(self) -> Tensor:
        """Thumbnails [head, row, column]."""
        return torch.stack([self._of(head).pictures.finish()[self._row(head)] for head in self._chosen])

    def scores(self, scale: Float[Tensor, "dest"]) -> dict[str, tuple[float, ...]]:
        """What the text itself tells about each head."""
        n_queries = int(self._targets.any(dim=1).sum())
        matched = [self._of(head).matched[self._row(head)] for head in self._chosen]
        found = {PREFIX_MATCHING: tuple(float(total) / n_queries if n_queries else float("nan") for total in matched)}
        if self._attributed:
            added = [torch.cat(self._of(head).added, dim=1)[self._row(head)] for head in self._chosen]
            found[ATTRIBUTION] = tuple(float((of_head / scale).mean()) for of_head in added)
        return found

    def _of(self, head: HeadIndex) -> "_Layer":
        return self._layers[head.layer]

    def _row(self, head: HeadIndex) -> int:
        return self._layers[head.layer].members.index(head.head)

    def _finish_layers(self) -> None:
        """Close the layers that are complete: a layer's blocks come one after the other."""
        for layer in self._layers.values():
            layer.finish()
        self.done(len(self._layers))


class _Layer:
    """The chosen heads of one layer."""

    def __init__(self, members: list[int], n_pos: int) -> None:
        self.members = members
        self.pictures = Thumbnails(len(members), n_pos)
        self.matched = torch.zeros(len(members), dtype=torch.float64)
        self.added: list[Float[Tensor, "head dest"]] = []
        self.patterns: list[Triangle] = []
        self.attributions: list[Triangle] = []
        self._packers: tuple[TrianglePacker, TrianglePacker] | None = (
            TrianglePacker(len(members)),
            TrianglePacker(len(members)),
        )

    def add(self, rows: HeadRows, targets: Bool[Tensor, "query src"]) -> None:
        """Pack a block of rows."""
        if self._packers is None:
            raise ValueError(f"layer {rows.layer} was complete")
        pattern = rows.pattern[self.members]
        self._packers[0].add(pattern, rows.first_dest)
        self.pictures.add(pattern, rows.first_dest)
        wanted = targets[rows.first_dest :][: pattern.shape[1], : pattern.shape[2]]
        self.matched += (pattern * wanted).sum(dim=(1, 2), dtype=torch.float64)
        if rows.attribution is not None:
            self._packers[1].add(rows.attribution[self.members], rows.first_dest)
            self.added.append(rows.attribution[self.members].sum(dim=-1))

    def finish(self) -> None:
        """Let go of what packing needs."""
        if self._packers is not None:
            self.patterns = self._packers[0].finish()
            self.attributions = self._packers[1].finish() if self.added else []
            self._packers = None


def _prefix_targets(ids: Int[Tensor, "pos"]) -> Bool[Tensor, "query src"]:
    """For each query the positions after earlier occurrences of its token."""
    same = (ids[:, None] == ids[None, :]).tril(-1)
    return torch.nn.functional.pad(same, (1, 0))[:, :-1]
