"""Ablating every head as one does it with TransformerLens today, carefully."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

from benchmarks.harness import Outcome, now
from ih_lens.data.eval_set import EvalSet

Head = tuple[int, int]


@dataclass(frozen=True)
class TodayAblation:
    """One forward pass per head and batch: patterns frozen by hooks, the head zeroed at `hook_z`.

    Under inference mode, with a cache of nothing but patterns, the log-softmax taken only where a loss is asked for.

    Attributes:
        model: the model.
        heads: the heads that are really ablated.
        times: all heads over these.
        frozen: whether patterns stay those of the unablated run.
        context_indices: where losses are asked for beside the random index; None asks for all.
        unembeds_rows_only: stop before the final norm, and apply it and the unembedding only where a loss is asked
            for. HookedTransformer has no option for it; whoever knows its parts can do it.
        batch_size: examples at a time; one of 512 tokens is best, because it stays in the processor's cache.
    """

    model: HookedTransformer
    heads: Sequence[Head]
    times: float
    frozen: bool
    context_indices: Sequence[int] | None
    unembeds_rows_only: bool = False
    batch_size: int = 1

    @torch.inference_mode()
    def __call__(self, evals: EvalSet) -> Outcome:
        """Losses [head, example, index]; means over examples [head, context_index] where all are asked for."""
        device = self.model.cfg.device or "cpu"
        start, seconds_on_heads = now(device), 0.0
        parts: list[Tensor] = []
        for first in range(0, evals.n_examples, self.batch_size):
            batch = slice(first, first + self.batch_size)
            tokens = evals.tokens[batch].to(device)
            indices = self._indices(evals.random_index[batch], evals.n_pos).to(device)
            patterns = self._patterns(tokens)
            start_heads = now(device)
            parts.append(torch.stack([self._losses(tokens, head, patterns, indices) for head in self.heads]))
            seconds_on_heads += now(device) - start_heads
        losses = torch.cat(parts, dim=1)
        if self.context_indices is None:
            losses = losses.mean(dim=1)
        return Outcome({"losses": losses.cpu()}, now(device) - start + (self.times - 1) * seconds_on_heads)

    def _indices(self, random_index: Tensor, n_pos: int) -> Tensor:
        """Where losses are asked for [example, index]."""
        if self.context_indices is None:
            return torch.arange(1, n_pos).expand(len(random_index), -1)
        chosen = torch.tensor(self.context_indices).expand(len(random_index), -1)
        return torch.cat([random_index[:, None], chosen], dim=1)

    def _patterns(self, tokens: Tensor) -> dict[str, Tensor]:
        if not self.frozen:
            return {}
        _, cache = self.model.run_with_cache(
            tokens, return_type=None, names_filter=lambda name: name.endswith("hook_pattern")
        )
        return cache.cache_dict

    def _losses(self, tokens: Tensor, head: Head, patterns: dict[str, Tensor], indices: Tensor) -> Tensor:
        layer, place = head

        def zero(z: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            z[:, :, place] = 0.0
            return z

        later = range(layer + 1, self.model.cfg.n_layers) if self.frozen else ()
        names = [f"blocks.{after}.attn.hook_pattern" for after in later]
        hooks: list[Any] = [(f"blocks.{layer}.attn.hook_z", zero), *((name, _put(patterns[name])) for name in names)]
        logits = self._logits(tokens, hooks, indices - 1)
        return -logits.log_softmax(dim=-1).gather(-1, tokens.gather(1, indices)[..., None])[..., 0]

    def _logits(self, tokens: Tensor, hooks: list[Any], rows: Tensor) -> Tensor:
        examples = torch.arange(len(tokens), device=tokens.device)[:, None]
        if self.unembeds_rows_only:
            n_layers = self.model.cfg.n_layers
            residual = self.model.run_with_hooks(tokens, stop_at_layer=n_layers, fwd_hooks=hooks)
            return self.model.unembed(self.model.ln_final(residual[examples, rows]))
        return self.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks)[examples, rows]


def _put(pattern: Tensor) -> Callable[..., Tensor]:
    """A hook that gives this pattern."""

    def freeze(_: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        return pattern

    return freeze


def spread_heads(n_layers: int, n_heads: int, n_sampled: int | None) -> list[Head]:
    """Heads spread evenly over layers and places; all where no number is given."""
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    if n_sampled is None or n_sampled >= len(heads):
        return heads
    return [heads[round((place + 0.5) * len(heads) / n_sampled - 0.5)] for place in range(n_sampled)]
