"""Scoring heads as one does it with TransformerLens today: caches, loops, full-vocabulary logits, FactoredMatrix."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformer_lens import ActivationCache, FactoredMatrix, HookedTransformer

from benchmarks.today_ablation import Head


def ov(model: HookedTransformer, head: Head) -> FactoredMatrix:
    """W_V W_O of one head; `model.OV` would copy those of all."""
    attention: Any = model.blocks[head[0]].attn
    return FactoredMatrix(attention.W_V[head[1]], attention.W_O[head[1]])


def qk(model: HookedTransformer, head: Head) -> FactoredMatrix:
    """W_Q W_K^T of one head."""
    attention: Any = model.blocks[head[0]].attn
    return FactoredMatrix(attention.W_Q[head[1]], attention.W_K[head[1]].T)


def whole_cache(model: HookedTransformer, tokens: Tensor) -> ActivationCache:
    """Every activation, as `run_with_cache` keeps them by itself; the logits are computed with them."""
    with torch.inference_mode():
        return model.run_with_cache(tokens)[1]


def cache_of(model: HookedTransformer, tokens: Tensor, *names: str) -> ActivationCache:
    """The activations whose hooks end so; nothing is unembedded."""
    keep: Callable[[str], bool] = lambda name: name.endswith(names)  # noqa: E731
    with torch.inference_mode():
        return model.run_with_cache(tokens, return_type=None, names_filter=keep)[1]


@torch.inference_mode()
def copying(model: HookedTransformer, tokens: Tensor, cache: ActivationCache, heads: Sequence[Head]) -> Tensor:
    """Copying scores [head] from logits over the whole vocabulary; the model's norms and biases are folded."""
    scores = torch.zeros(len(heads), len(tokens))
    for place, (layer, head) in enumerate(heads):
        values, patterns, W_O = (
            cache["v", layer][:, :, head],
            cache["pattern", layer][:, head],
            ov(model, (layer, head)).B,
        )
        for example, sample in enumerate(tokens):
            logits = (values[example] @ W_O @ model.W_U).relu()  # [source, d_vocab]
            raised = logits[:, sample]
            received = patterns[example].sum(dim=0)
            attended = (received * raised.diagonal()).sum()
            total = (received[:, None] * raised).sum()
            scores[place, example] = 4 * attended / (attended + total) - 1
    return scores.mean(dim=1)


@torch.inference_mode()
def ov_eigenvalues(model: HookedTransformer, heads: Sequence[Head]) -> Tensor:
    """Share of positive eigenvalues of each head's full OV circuit [head]."""
    scores: list[Tensor] = []
    for head in heads:
        eigenvalues = (model.W_E @ ov(model, head) @ model.W_U).eigenvalues
        scores.append((eigenvalues.sum() / eigenvalues.abs().sum()).real)
    return torch.stack(scores).cpu()


@torch.inference_mode()
def qk_trace_per_pair(model: HookedTransformer, previous_token: Tensor, pairs: Sequence[tuple[Head, Head]]) -> Tensor:
    """The term of the QK-eigenvalue trace of each pair of a head and an earlier one [pair]."""
    terms: list[Tensor] = []
    for head, earlier in pairs:
        circuit = model.W_E @ qk(model, head) @ ov(model, earlier).T @ model.W_E.T
        terms.append(previous_token[earlier] * circuit.eigenvalues.sum().real.cpu())
    return torch.stack(terms)


@torch.inference_mode()
def written_before(model: HookedTransformer, previous_token: Tensor) -> list[Tensor]:
    """Per layer the sum of all earlier heads' OV matrices, each times its previous-token score."""
    sums = [torch.zeros(model.cfg.d_model, model.cfg.d_model, device=model.W_E.device)]
    for layer in range(model.cfg.n_layers - 1):
        total = sums[-1].clone()
        for head in range(model.cfg.n_heads):
            written: Any = ov(model, (layer, head)).AB
            total += float(previous_token[layer, head]) * written
        sums.append(total)
    return sums


@torch.inference_mode()
def qk_trace_per_head(model: HookedTransformer, written: Sequence[Tensor], heads: Sequence[Head]) -> Tensor:
    """The QK-eigenvalue trace [head], from the sum over earlier heads, which is made once per layer."""
    traces: list[Tensor] = []
    for head in heads:
        circuit = model.W_E @ qk(model, head) @ written[head[0]].T @ model.W_E.T
        traces.append(circuit.eigenvalues.sum().real)
    return torch.stack(traces).cpu()


@torch.inference_mode()
def attribution(model: HookedTransformer, tokens: Tensor, cache: ActivationCache, heads: Sequence[Head]) -> Tensor:
    """Direct effect on the next token's logit [head, dest, src] of one example, from logits of every source."""
    targets, scale = tokens[0, 1:], cache["ln_final.hook_scale"][0, :-1]
    found: list[Tensor] = []
    for layer, head in heads:
        logits = cache["v", layer][0, :-1, head] @ ov(model, (layer, head)).B @ model.W_U  # [source, d_vocab]
        found.append(cache["pattern", layer][0, head, :-1, :-1] * logits[:, targets].T / scale)
    return torch.stack(found).cpu()


@torch.inference_mode()
def stripes(cache: ActivationCache, n_layers: int, period: int, repeats: int) -> dict[str, Tensor]:
    """Prefix matching and previous-token attention [layer, head] on repeated tokens, from cached patterns."""
    prefix: list[Tensor] = []
    previous: list[Tensor] = []
    for layer in range(n_layers):
        pattern = cache["pattern", layer]
        n_queries = pattern.shape[-1] - period
        ahead = [pattern.diagonal(1 - turn * period, dim1=-2, dim2=-1)[..., 1:] for turn in range(1, repeats)]
        prefix.append(torch.cat(ahead, dim=-1).sum(dim=-1).mean(dim=0) / n_queries)
        previous.append(pattern.diagonal(-1, dim1=-2, dim2=-1).mean(dim=(0, -1)))
    return {"prefix_matching": torch.stack(prefix).cpu(), "previous_token": torch.stack(previous).cpu()}
