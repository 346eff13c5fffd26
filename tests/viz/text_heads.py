"""Heads on a text made up from random numbers, without any model."""

from collections.abc import Sequence

import torch
from torch import Tensor

import ih_lens as ih
from ih_lens.viz.viewer.triangles import Thumbnails, Triangle, TrianglePacker

TEXTS = ["<s>", " the", " cat", "\n", "\tsat", " on", " the", " mat", ".", "\n\n", "The", "é", "\\xe6", " ", "", "end"]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "<!--",
    "&lt;b>",
]


def packed(matrices: Tensor) -> list[Triangle]:
    """Causal matrices [head, dest, src]."""
    packer = TrianglePacker(len(matrices))
    packer.add(matrices, 0)
    return packer.finish()


def random_heads(
    texts: Sequence[str] = TEXTS, n_heads: int = 3, *, attributed: bool = True, sharpness: float = 3.0, seed: int = 0
) -> tuple[ih.HeadsOnText, Tensor, Tensor]:
    """The result, and the patterns and attributions that it was made of."""
    generator = torch.Generator().manual_seed(seed)
    n_pos = len(texts)
    causal = torch.ones(n_pos, n_pos).tril().bool()
    scores = sharpness * torch.randn(n_heads, n_pos, n_pos, generator=generator)
    patterns = scores.masked_fill(~causal, -torch.inf).softmax(-1)
    drawn = torch.randn(n_heads, n_pos - 1, n_pos - 1, generator=generator)
    attributions = (drawn * 4 * patterns[:, :-1, :-1]).tril()
    pictures = Thumbnails(n_heads, n_pos)
    pictures.add(patterns, 0)
    heads = ih.HeadsOnText(
        ids=tuple(range(100, 100 + n_pos)),
        texts=tuple(texts),
        heads=tuple(ih.HeadIndex(1 + number // 4, number % 4) for number in range(n_heads)),
        patterns=tuple(packed(patterns)),
        attributions=tuple(packed(attributions)) if attributed else None,
        not_attributed="" if attributed else "these logits are <no> sums",
        thumbnails=pictures.finish(),
        scores={
            "prefix_matching": tuple(((7 * number + 3) % 11) / 11 for number in range(n_heads)),
            "copying": (*(number / 10 for number in range(n_heads - 1)), float("nan")),
        },
        attrs={"model": "made up"},
    )
    return heads, patterns, attributions
