"""What each measure beyond the paper costs on a random model of GPT-2 small's shape: seconds and peak memory, no ratio.

Every entry is called once. It has been called on a tiny model before, so that imports do not count.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from itertools import chain

from torch import Tensor
from transformer_lens import HookedTransformer
from transformers import PreTrainedTokenizerFast

import ih_lens as ih
from benchmarks.harness import now
from benchmarks.memory import PeakMemory
from benchmarks.plan import Plan
from benchmarks.shapes import build_random, configuration, new_tokens
from demos.stand_ins import byte_level_tokenizer
from ih_lens.data.behaviours.pattern_lines import ANIMALS, COLOURS, FRUIT, MONTHS
from ih_lens.data.behaviours.sentence_pairs import sentence_pairs

TEXT_EXAMPLES, LONGEST = 4, 512
NEW_TOKENS, PROMPTS = 20, 4
DUPLICATES = ("L0H1", "L0H3", "L1H0")
"""Taken for duplicate-token heads, of which a random model has none."""


@dataclass(frozen=True)
class Expense:
    """One entry and what it cost.

    Attributes:
        name: the call.
        work: on what.
        seconds: of one call, in one thread.
        processor_seconds: for which the processor worked on it, about what it takes where nothing else runs.
        extra_bytes: peak memory over that of the model; None where the system does not tell.
        load: the machine's load, a mean over the last minute, when the call was done.
    """

    name: str
    work: str
    seconds: float
    processor_seconds: float
    extra_bytes: int | None
    load: float


Entry = tuple[str, str, Callable[[HookedTransformer], object]]


def measure(plan: Plan) -> list[Expense]:
    """Every entry, one after another."""
    if not plan.tiny:
        small = _model(Plan(tiny=True, device=plan.device))
        for _, _, call in entries(small):
            call(small)
    model = _model(plan)
    return [_expense(entry, model, plan.device) for entry in entries(model)]


def entries(model: HookedTransformer) -> list[Entry]:
    """The calls; heads are of the middle of the model."""
    layer = max(1, model.cfg.n_layers // 2 - 1)
    later, earlier = f"L{layer}H1", f"L{layer - 1}H1"
    n_pos = min(LONGEST, model.cfg.n_ctx)
    evals = ih.EvalSet.from_tokens(new_tokens(model, TEXT_EXAMPLES, n_pos, 0), seed=0)
    view = ih.repeated_random_tokens(model, length=model.cfg.n_ctx // 4, repeats=4, n_examples=1, bos=None)
    prompts = ih.random_tokens(model, length=12, n_examples=PROMPTS)
    repeated, text = "10 x 100 tokens and a start token", f"{TEXT_EXAMPLES} x {n_pos} tokens"
    return [
        ("score_heads", "all evaluators and eigenvalues, bootstrap intervals", _scores_with_spread),
        *(
            (f'null_scores(kind="{kind}")', "one draw", partial(ih.null_scores, kind=kind, n_draws=1, progress=False))
            for kind in ("random_weights", "same_norm_weights", "shuffled_tokens")
        ),
        ("induction_kinds", "all kinds, 10 examples of each", ih.induction_kinds),
        ("induction_verdict", "4 periods, 10 examples of each", ih.induction_verdict),
        ("score_behaviours", "the three of them, on the project's own texts", partial(_behaviours, scored=True)),
        ("behaviour_table", "the same, prefix matching and copying", partial(_behaviours, scored=False)),
        *(
            (f'composition_scores("{kind}")', "all pairs of heads", partial(ih.composition_scores, kind=kind))
            for kind in "kqv"
        ),
        ("explain_head", f"{later}, {repeated}", partial(ih.explain_head, head=later)),
        (
            "pointer_arithmetic",
            f"all heads, {len(DUPLICATES)} given as duplicate-token heads, {repeated}",
            partial(ih.pointer_arithmetic, duplicates=DUPLICATES),
        ),
        ("head_wiring", f"{earlier} on {later}, {repeated}", partial(ih.head_wiring, earlier=earlier, later=later)),
        (
            "memory_recall",
            f"{earlier} and {later}, 1000 tokens",
            partial(ih.memory_recall, head=later, previous=earlier),
        ),
        ("skip_trigrams", "L0H1, of the whole vocabulary", partial(ih.skip_trigrams, head="L0H1")),
        ("matched_ablations", f"{later} and one draw, {text}", partial(_ablations, evals=evals, head=later)),
        ("loss_split", f"losses and classes of {text}", partial(_loss_split, evals=evals)),
        (
            "generation_loops",
            f"{later} and one draw, {NEW_TOKENS} tokens after {PROMPTS} x 12",
            partial(_loops, prompts=prompts, head=later),
        ),
        ("induction_view", f"all heads, {view.shape[1]} tokens", partial(_view, tokens=view)),
    ]


def _expense(entry: Entry, model: HookedTransformer, device: str) -> Expense:
    name, work, call = entry
    with PeakMemory() as peak:
        start, working = now(device), time.process_time()
        call(model)
        seconds, working = now(device) - start, time.process_time() - working
    return Expense(name, work, seconds, working, peak.extra_bytes, round(os.getloadavg()[0], 2))


def _model(plan: Plan) -> HookedTransformer:
    """GPT-2 small's shape; a tiny one has a context that the behaviours fit."""
    tokenizer = _tokenizer()
    cfg = configuration("GPT-2 small", tiny=plan.tiny, device=plan.device)
    if plan.tiny:
        cfg.n_ctx, cfg.d_vocab, cfg.d_vocab_out = 256, len(tokenizer), len(tokenizer)
    model = build_random(cfg)
    model.tokenizer = tokenizer
    return model


@lru_cache(maxsize=1)
def _tokenizer() -> PreTrainedTokenizerFast:
    """One that knows the words of the behaviours' texts, as GPT-2's does; fewer ids than the model has."""
    stories = files("ih_lens.data.behaviours").joinpath("stories.txt").read_text(encoding="utf8")
    pairs = chain.from_iterable((pair.first, pair.second) for pair in sentence_pairs()[0])
    words = (f"\n{word} {word}" for word in (*MONTHS, *COLOURS, *ANIMALS, *FRUIT))
    return byte_level_tokenizer([stories, *pairs, *words] * 4, n_tokens=20_000)


def _scores_with_spread(model: HookedTransformer) -> object:
    scores = ih.score_heads(model)
    return [scores.confidence_interval(name) for name in ih.EVALUATORS]


def _behaviours(model: HookedTransformer, *, scored: bool) -> object:
    return (ih.score_behaviours if scored else ih.behaviour_table)(model, progress=False)


def _ablations(model: HookedTransformer, *, evals: ih.EvalSet, head: str) -> object:
    return ih.matched_ablations(model, evals, [head], n_draws=1, progress=False)


def _loss_split(model: HookedTransformer, *, evals: ih.EvalSet) -> object:
    losses = ih.token_losses(model, evals, keep="all", progress=False)
    return ih.loss_split(losses, ih.token_classes(evals.tokens))


def _loops(model: HookedTransformer, *, prompts: Tensor, head: str) -> object:
    return ih.generation_loops(model, prompts, [head], n_new=NEW_TOKENS, n_draws=1, progress=False)


def _view(model: HookedTransformer, *, tokens: Tensor) -> object:
    return ih.induction_view(model, tokens, progress=False)
