"""The viewer of one text: measures every head on it, then draws."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ih_lens.data.start_tokens import choose_start_token
from ih_lens.data.text_examples import text_encoder
from ih_lens.errors import InputError
from ih_lens.measure.attribution import attribution_obstacle
from ih_lens.measure.provenance import provenance
from ih_lens.measure.text_heads import visit_text_heads
from ih_lens.models.token_texts import token_texts
from ih_lens.progress import progress_bar
from ih_lens.report.text_heads import TextHeadCollector
from ih_lens.results import HeadScores
from ih_lens.types import HeadIndex, HeadSpelling, ModelLike
from ih_lens.validate import head_index, token_batch
from ih_lens.viz.viewer.heads_on_text import HeadsOnText
from ih_lens.viz.viewer.view import InductionView
from ih_lens.viz.viewer.view import induction_view as draw


def induction_view(
    model: ModelLike,
    text_or_tokens: str | Tensor,
    *,
    heads: Sequence[HeadSpelling] | None = None,
    scores: HeadScores | None = None,
    bos: int | str | None = "auto",
    destinations: Sequence[int] | None = None,
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
        destinations: show attention from these positions only, and attribution of the tokens after them only, as the
            paper does for pattern matching; scores on the text are then of these. Such as those of
            `PatternMatching().texts(model).texts[0].destinations`. All by default.
        title: heading of the page; the model's name by default.
        progress: show a bar while it runs, if this is a terminal or a notebook.

    Returns:
        The view; its `.data` holds what it shows, each entry to within 1/255 of the largest magnitude in its row.

    Raises:
        CapabilityError: if the model does not predict each token from those before it.
        InputError: if the model cannot read the text or the ids, or has no such heads.

    Examples:
        >>> model = load_model("gpt2")
        >>> view = induction_view(model, "The heron fished. The otter watched the heron.", scores=score_heads(model))
        >>> view.save("view.html")
        PosixPath('view.html')
    """
    tokens = _tokens(model, text_or_tokens, bos)
    obstacle = attribution_obstacle(model, tokens)
    chosen = _chosen(model, heads)
    shown = _shown(destinations, tokens.shape[1])
    layers = sorted({head.layer for head in chosen})
    with progress_bar(f"attention of {len(layers)} layers", total=len(layers), show=progress) as done:
        collected = TextHeadCollector(tokens[0], chosen, done, shown, attributed=obstacle is None)
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
        attrs=provenance(model, bos=bos if isinstance(text_or_tokens, str) else "as given", **_masked(shown)),
    )
    return draw(data if scores is None else data.with_scores(scores), title=title)


def _tokens(model: ModelLike, text_or_tokens: str | Tensor, bos: int | str | None) -> Int[Tensor, "1 pos"]:
    if isinstance(text_or_tokens, str):
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise InputError("the model has no tokenizer, so it cannot read a text; give token ids [pos] instead")
        start = choose_start_token(model, bos).id
        ids = text_encoder(tokenizer)([text_or_tokens])[0]
        tokens = torch.tensor([ids if start is None else [start, *ids]], dtype=torch.int64, device="cpu")
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


def _shown(destinations: Sequence[int] | None, n_pos: int) -> Bool[Tensor, "pos"]:
    """Which positions attention is shown from."""
    if destinations is None:
        return torch.ones(n_pos, dtype=torch.bool, device="cpu")
    places = [int(place) for place in destinations]
    if not places or min(places) < 0 or max(places) >= n_pos:
        raise InputError(
            f"destinations: expected positions from 0 to {n_pos - 1}, at least one, got {places[:8]}; leave "
            "destinations out for all of them"
        )
    return torch.zeros(n_pos, dtype=torch.bool, device="cpu").index_fill(
        0, torch.tensor(places, device="cpu"), value=True
    )


def _masked(shown: Bool[Tensor, "pos"]) -> dict[str, list[int]]:
    """What the result says of the destinations; nothing where all are shown."""
    return {} if bool(shown.all()) else {"destinations": shown.nonzero().flatten().tolist()}


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
