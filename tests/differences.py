"""The numbers of docs/differences.md: `python -m tests.differences` computes them and writes them into the page."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from transformer_lens import HookedTransformer

import ih_lens as ih
from ih_lens.types import HeadGroup
from tests import other_scores
from tests.helpers import random_tokens, tiny_model
from tests.models.huggingface_models import byte_level_tokenizer
from tests.oracles.hand_built import (
    ANTI_COPYING,
    DUPLICATE_TOKEN,
    INDUCTION,
    SHARPNESS,
    START_TOKEN,
    UNIFORM,
    induction_model,
)

END = "<!-- end of numbers -->"
PAGE = Path(__file__).parents[1] / "docs" / "differences.md"
BOS = 63
LATEST, ALL_COPIES = INDUCTION, ANTI_COPYING
"""Heads of `resting_model`: both rest on the start token where nothing matches; one attends to the latest copy."""

HEADS = {
    "latest copy": (1, LATEST),
    "all copies": (1, ALL_COPIES),
    "uniform": (1, UNIFORM),
    "same token": (0, DUPLICATE_TOKEN),
    "start token": (0, START_TOKEN),
}
"""Whose scores the first table shows: two perfect induction heads, and three that are none."""


def resting_model() -> HookedTransformer:
    """The hand-built model with induction heads that look at the start token where there is nothing to match."""
    model = induction_model(d_vocab=BOS + 1, n_ctx=112)
    attention, position = model.blocks[1].attn, slice(BOS + 1, BOS + 1 + 112)
    attention.W_Q.data[LATEST, : BOS + 1] *= 20
    attention.W_K.data[LATEST, position, -1] = 4.0 * torch.arange(112)
    attention.W_K.data[LATEST, position, -1][0] = 5 * SHARPNESS
    attention.W_K.data[ALL_COPIES, position, -1][0] = SHARPNESS / 2
    return model


def prefix_matching() -> list[list[str]]:
    """Every definition on every head."""
    model = resting_model()
    draws = {
        repeats: ih.repeated_random_tokens(model, length=100 // repeats, repeats=repeats, n_examples=3, bos=BOS)
        for repeats in (2, 4)
    }
    attention = {repeats: other_scores.patterns(model, tokens) for repeats, tokens in draws.items()}

    def ours(reading: str = "induction", offset: int = 0) -> Callable[[int, int], float]:
        scores = ih.prefix_matching_score(model, draws[4], has_bos=True, reading=reading, offset=offset)
        return lambda layer, head: float(scores[layer, head])

    def theirs(repeats: int, score: Callable[[torch.Tensor, torch.Tensor], float]) -> Callable[[int, int], float]:
        return lambda layer, head: score(attention[repeats][layer][:, head], draws[repeats])

    rows: dict[str, Callable[[int, int], float]] = {
        "`ih_lens`, default, 4 × 25": ours(),
        "mean over all entries, 4 × 25": ours("printed", 2),
        "the printed sentence, 4 × 25": ours("printed"),
        "`detect_head`, 2 × 50": theirs(2, other_scores.detect_head),
        "`detect_head`, 4 × 25": theirs(4, other_scores.detect_head),
        "`detect_head(exclude_bos=True)`, 4 × 25": theirs(4, partial(other_scores.detect_head, exclude_bos=True)),
        '`detect_head(error_measure="abs")`, 2 × 50': theirs(2, partial(other_scores.detect_head, error_measure="abs")),
        '`detect_head(error_measure="abs")`, 4 × 25': theirs(4, partial(other_scores.detect_head, error_measure="abs")),
        "stripe, 2 × 50": theirs(2, lambda pattern, _: other_scores.stripe(pattern, 50)),
        "stripe, 4 × 25": theirs(4, lambda pattern, _: other_scores.stripe(pattern, 25)),
        "start token left out, share of all, 2 × 50": theirs(
            2, lambda pattern, _: other_scores.without_start(pattern, 50)
        ),
        "places from the length, 4 × 25": theirs(4, lambda pattern, _: other_scores.by_places(pattern, 25, 4)),
        "match of the token before, 4 × 25": theirs(4, other_scores.after_what_precedes),
    }
    body = [[name, *(_number(score(*place)) for place in HEADS.values())] for name, score in rows.items()]
    return [["score", *HEADS], *body]


def copying() -> list[list[str]]:
    """Every definition on heads that copy, anti-copy, and on heads of random weights."""
    built, drawn = resting_model(), tiny_model("attention_only", d_vocab=64)
    places = {
        "copying induction head": (built, 1, LATEST),
        "the same, negated": (built, 1, ALL_COPIES),
        "uniform copying head": (built, 1, UNIFORM),
        "random weights, L0H1": (drawn, 0, 1),
        "random weights, L1H2": (drawn, 1, 2),
    }

    def row(name: str, score: Callable[[HookedTransformer, int, int], float]) -> list[str]:
        return [name, *(_number(score(*place)) for place in places.values())]

    def ours(rectified: str) -> Callable[[HookedTransformer, int, int], float]:
        return lambda model, layer, head: float(
            ih.copying_score(model, ih.random_tokens(model, length=25), rectified=rectified)[layer, head]
        )

    def with_start(model: HookedTransformer, layer: int, head: int) -> float:
        tokens = ih.random_tokens(model, length=25, n_examples=3, bos=BOS)
        return other_scores.copying_at_own_position(model, tokens, layer, head)

    def eigenvalues(model: HookedTransformer, layer: int, head: int) -> float:
        return float(ih.ov_copying_eigenvalue_score(model)[layer, head])

    return [
        ["score", *places],
        row("`ih_lens`, default (−1 to 1)", ours("source")),
        row('`rectified="destination"` (−1 to 1)', ours("destination")),
        row("OV eigenvalues (−1 to 1)", eigenvalues),
        row("at the present position (0 to 1)", with_start),
    ]


def in_context_learning() -> list[list[str]]:
    """One loss curve, 3 − 0.2 ln(context index) nats, scored in several ways."""
    indices = np.arange(1, 512)
    curve = torch.from_numpy(3 - 0.2 * np.log(indices))
    losses = ih.TokenLosses.from_tensors(
        {"by_context_index": curve},
        random_index=[1],
        by_context_index=indices.tolist(),
        at_indices=[50, 500],
        provenance={"fingerprint": "made up"},
    )
    score = float(ih.in_context_learning_score(losses))
    columns = float(curve[500] - curve[50])
    shifted = float(ih.in_context_learning_score(losses, late=501, early=51))
    return [
        ["way", "score (nats)", "here"],
        ["loss at context index 500 minus 50", _number(score, 4), "`in_context_learning_score(losses)`"],
        [
            "columns 500 and 50 of the per-token losses",
            _number(columns, 4),
            f"`late=501, early=51`: {_number(shifted, 4)}",
        ],
        ["early minus late", _number(-columns, 4), "`-in_context_learning_score(losses)`"],
        ["501 batches added up, divided by 500", _number(columns * 501 / 500, 4), "not offered"],
        ["1001 batches added up, divided by 1000", _number(columns * 1001 / 1000, 4), "not offered"],
    ]


def principal_components() -> list[list[str]]:
    """Two made-up trainings that begin alike: one only falls, the other turns aside half-way; noise of 0.02 nats."""
    generator = np.random.default_rng(0)
    fall, turn = generator.random(size=(2, 2000))
    time = np.linspace(0, 1, 40)[:, None]
    noise = generator.normal(scale=0.02, size=(2, 40, 2000))
    one_layer = 6 - 2 * time * fall + noise[0]
    two_layers = 6 - 2 * time * fall - 2 * np.maximum(time - 0.5, 0) * (turn - 0.5) + noise[1]
    joint = PCA(2).fit(np.concatenate([one_layer, two_layers]))
    ways = {
        "joint, centred": [joint.transform(one_layer), joint.transform(two_layers)],
        "per model, centred": [PCA(2).fit_transform(losses) for losses in (one_layer, two_layers)],
        "per model, standardised, 200 tokens": [
            PCA(2).fit_transform(_scaled(losses)) for losses in (one_layer, two_layers)
        ],
    }
    rows = [["fit", "distance of the first points, as a share of the longer path's extent"]]
    for name, (first, second) in ways.items():
        extent = max(float(np.linalg.norm(np.ptp(path, axis=0))) for path in (first, second))
        rows.append([name, _number(float(np.linalg.norm(first[0] - second[0])) / extent)])
    return rows


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """200 of the columns, each of unit deviation."""
    return StandardScaler().fit_transform(matrix[:, :200])


def ablation() -> list[list[str]]:
    """What the same words do to the loss."""
    return [
        ["what", "change of the mean loss (nats)"],
        *_kinds(),
        *_grouped(),
        *_value_biases(),
    ]


def _kinds() -> list[list[str]]:
    model = resting_model()
    model.blocks[1].attn.W_O.data *= 8 * torch.eye(4)[INDUCTION][:, None, None]
    tokens = ih.repeated_random_tokens(model, length=25, repeats=4, n_examples=3, bos=BOS)
    evals = ih.EvalSet.from_tokens(tokens)
    rows = []
    for head, name in (((0, 0), "previous-token head"), ((1, LATEST), "induction head")):
        for kind in ("full", "pattern_preserving"):
            change = _change(model, evals, head, kind)
            rows.append([f"hand-built model, its {name}, `kind={kind!r}`".replace("'", '"'), _number(change)])
    return rows


@torch.no_grad()
def _grouped() -> list[list[str]]:
    model = tiny_model("rms_grouped")
    tokens = random_tokens(model, n_examples=8)
    evals = ih.EvalSet.from_tokens(tokens)

    def zero(activation: torch.Tensor, hook: object) -> torch.Tensor:
        activation[:, :, 1] = 0.0
        return activation

    losses = model.run_with_hooks(tokens, return_type="loss", fwd_hooks=[("blocks.0.attn.hook_v", zero)])
    values = float(losses - model(tokens, return_type="loss"))
    return [
        ["random weights, 4 heads on 2 key-value heads: entry 1 of `hook_v` zeroed", _number(values)],
        ["the same model: L0H1 ablated", _number(_change(model, evals, (0, 1), "full"))],
        ["the same model: L0H2 and L0H3 ablated together", _number(_change(model, evals, ["L0H2", "L0H3"], "full"))],
    ]


def _value_biases() -> list[list[str]]:
    plain = tiny_model("attention_only", dtype=torch.float32)
    folded = copy.deepcopy(plain)
    others = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed"), False)
    folded.load_and_process_state_dict(plain.state_dict(), fold_value_biases=True, **others)
    evals = ih.EvalSet.from_tokens(random_tokens(plain, n_examples=16))
    rows = []
    for replace in ("zero", "mean"):
        for name, model in (("value biases in place", plain), ("value biases folded into `b_O`", folded)):
            change = _change(model, evals, (1, 0), "full", replace)
            rows.append([f"random weights, {name}: L1H0, `replace={replace!r}`".replace("'", '"'), _number(change)])
    return rows


def _change(model: HookedTransformer, evals: ih.EvalSet, group: HeadGroup, kind: str, how: str = "zero") -> float:
    """Mean loss with a head or a group of heads ablated, less without."""
    ablated = ih.ablate_heads(model, evals, heads=[group, ["L0H0", "L0H1"]], kind=kind, replace=how, progress=False)
    unablated = ih.token_losses(model, evals, progress=False)
    return float(ablated.by_context_index[0].mean() - unablated.by_context_index.mean())


def weights() -> list[list[str]]:
    """OV eigenvalue scores of one random model, as it is and as TransformerLens processes it."""
    plain = tiny_model("attention_only", dtype=torch.float32)
    folded = copy.deepcopy(plain)
    folded.process_weights_()
    rows = [["OV eigenvalue score of L0H0", "weights as trained", "weights as `from_pretrained` gives them"]]
    rows.append(
        ["plain weights", *(_number(other_scores.plain_ov_eigenvalues(model, 0, 0)) for model in (plain, folded))]
    )
    ours = [float(ih.ov_copying_eigenvalue_score(model)[0, 0]) for model in (plain, folded)]
    rows.append(["`ov_copying_eigenvalue_score`", *map(_number, ours)])
    return rows


def drawn_tokens() -> list[list[str]]:
    """How often a draw is not what it is taken for."""

    def recurs(length: int, n_tokens: int) -> str:
        return f"{-100 * math.expm1(sum(math.log1p(-k / n_tokens) for k in range(length))):.1f} %"

    return [
        ["draw", "sequences in which some token recurs by chance"],
        ["50 of all 50,257 ids, with replacement", recurs(50, 50_257)],
        ["50 of the ids 1,000 to 9,999, with replacement", recurs(50, 9_000)],
        ["64 of the ids 1,000 to 1,999, with replacement", recurs(64, 1_000)],
        ["without replacement (`repeated_random_tokens`)", "0.0 %"],
    ]


def round_trip() -> list[list[str]]:
    """Random ids decoded to text, and the text tokenized again."""
    tokenizer = byte_level_tokenizer()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, len(tokenizer), (200, 50), generator=generator)
    once = [tokenizer(text)["input_ids"] for text in tokenizer.batch_decode(ids)]
    same = sum(found == drawn for found, drawn in zip(once, ids.tolist(), strict=True))
    twice = torch.cat([ids, ids], dim=1)
    again = [tokenizer(text)["input_ids"] for text in tokenizer.batch_decode(twice)]
    periodic = sum(len(found) == 100 and found[:50] == found[50:] for found in again)
    return [
        ["of 200 sequences of 50 random ids, decoded and tokenized again", "number"],
        ["come back as the same ids", str(same)],
        ["repeated once, come back as 100 ids with period 50", str(periodic)],
    ]


def _number(value: float, digits: int = 2) -> str:
    """As the page prints it."""
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


TABLES: dict[str, Callable[[], list[list[str]]]] = {
    "prefix matching": prefix_matching,
    "copying": copying,
    "in-context learning": in_context_learning,
    "principal components": principal_components,
    "ablation": ablation,
    "weights": weights,
    "drawn tokens": drawn_tokens,
    "round trip": round_trip,
}
"""The tables of the page, by the name in the comments around them."""


def written(page: str) -> str:
    """The page with its numbers computed anew."""
    for name, table in TABLES.items():
        before, found, behind = page.partition(f"<!-- numbers: {name} -->\n")
        _, found_end, behind = behind.partition(END)
        if not found or not found_end:
            raise ValueError(f"expected a place for the numbers {name!r} in {PAGE}")
        header, *body = table()
        lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)]
        page = before + found + "\n" + "\n".join(lines) + "\n\n" + END + behind
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf8")), encoding="utf8")
