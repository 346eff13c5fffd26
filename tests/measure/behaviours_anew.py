"""Texts of made-up languages, and behaviours computed anew from texts and patterns, word by word."""

import numpy as np
import torch
from transformer_lens import HookedTransformer

import ih_lens as ih
from ih_lens.measure.behaviours._base import BehaviourText
from tests.measure.twins import patterns, source_logits
from tests.oracles.behaving import MADE_UP, OTHER, word_tokenizer

SMALL = ih.PatternMatching(n_lines=12, n_examples=3, n_words=3)


def sentence(generator: np.random.Generator, length: int) -> tuple[str, str, str]:
    """A sentence in a made-up language, its translation word by word, and their alignment."""
    words = generator.choice(len(MADE_UP), length, replace=False).tolist()
    alignment = " ".join(f"{place}-{place}" for place in range(length))
    return " ".join(MADE_UP[word] for word in words), " ".join(OTHER[word] for word in words), alignment


def sentences(n: int = 6, length: int = 9) -> list[tuple[str, str, str]]:
    generator = np.random.default_rng(0)
    return [sentence(generator, length) for _ in range(n)]


def stories(n: int = 6) -> list[str]:
    generator = np.random.default_rng(1)
    return [" ".join(generator.choice(MADE_UP, 120)) for _ in range(n)]


def behaviours() -> list[ih.LiteralCopying | ih.Translation | ih.PatternMatching]:
    return [
        ih.LiteralCopying(text=stories(), n_examples=3, n_pos=100, span=8),
        ih.Translation(pairs=sentences()),
        SMALL,
    ]


def rows_of(model: HookedTransformer, text: BehaviourText) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention [layer, head, query, key]; what each source adds, [layer, head, source, d_vocab]; the final scale."""
    tokens = torch.tensor([text.ids])
    _, cache = model.run_with_cache(tokens)
    normalised = model.cfg.normalization_type is not None
    scale = cache["ln_final.hook_scale"][0, :, 0].detach() if normalised else torch.ones(len(text.ids))
    return patterns(model, tokens)[0], source_logits(model, tokens)[0], scale


def slow_attribution(model: HookedTransformer, text: BehaviourText, *, anywhere: bool) -> torch.Tensor:
    """Logits of the answer less the mean of its rivals', source by source."""
    pattern, logits, scale = rows_of(model, text)
    total = torch.zeros(pattern.shape[:2], dtype=torch.float64)
    for query, keys in text.targets.items():
        rivals = text.rivals.get(query, ())
        answer = logits[..., text.ids[query + 1]]
        if rivals:
            answer = answer - logits[..., list(rivals)].mean(dim=-1)
        for key in range(query + 1) if anywhere else keys:
            total += pattern[:, :, query, key] * answer[:, :, key] / scale[query]
    return total / len(text.targets)


def slow_pattern_matching(ids: list[int], pattern: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Every reading of lines, from the words alone: five tokens per line, after a start token."""
    words = word_tokenizer().convert_ids_to_tokens(ids)[1:]
    lines = [words[place : place + 5] for place in range(0, len(words), 5)]
    found: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        found.setdefault(name, []).append(value)

    for number, (first, second, colon, label, end) in enumerate(lines):
        assert (colon, end) == (":", "\n")
        row = pattern[:, :, 1 + 5 * number + 2]
        same = [other for other in range(number) if lines[other][3] == label]
        near = [other for other in range(number) if lines[other][3] != label]
        near = [other for other in near if lines[other][0] == first or lines[other][1] == second]
        to_labels = [row[..., 1 + 5 * other + 3] for other in range(number)]
        if same:
            keep("", sum(to_labels[other] for other in same))
            keep("_lines", sum(row[..., 1 + 5 * other : 6 + 5 * other].sum(dim=-1) for other in same))
            keep("_labels", sum(to_labels))
            keep("_chance", sum(to_labels) * len(same) / number)
        if same and near:
            keep("_per_line", sum(to_labels[other] for other in same) / len(same))
            keep("_per_near_line", sum(to_labels[other] for other in near) / len(near))
    return found
