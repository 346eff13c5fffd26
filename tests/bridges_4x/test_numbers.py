"""Every call gives on bridges of 4.x what it gives on the same weights under 3.9, and what the definition says."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.bridges_4x.calls import CALLS
from tests.bridges_4x.measured import Measured, difference, measure
from tests.bridges_4x.models import KINDS
from tests.bridges_4x.supported import documented

every_kind = pytest.mark.parametrize("kind", KINDS)


def test_every_call_on_every_kind_is_documented() -> None:
    assert documented().keys() == {(kind, call) for kind in KINDS for call in CALLS}


@pytest.mark.parametrize("call", CALLS)
@every_kind
def test_numbers_are_those_of_3_9_or_the_call_is_refused_as_documented(
    models: dict[str, Any], expected: dict[tuple[str, str], Measured], kind: str, call: str
) -> None:
    told, found = documented()[kind, call], measure(models[kind], call)
    if isinstance(told, str):
        assert found.refused == told
    else:
        assert found.refused is None
        assert len(found.numbers) > 0
        assert difference(found, expected[kind, call]) <= told


def _logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Of the wrapped model itself: no hook of TransformerLens has a part in it."""
    with torch.no_grad():
        found = model.original_model(tokens)
    return found if isinstance(found, torch.Tensor) else found.logits


def _slow_losses(model: Any, tokens: torch.Tensor) -> np.ndarray:
    log_probabilities = _logits(model, tokens).log_softmax(-1)
    places = [(row, index) for row in range(len(tokens)) for index in range(1, tokens.shape[1])]
    losses = [-float(log_probabilities[row, index - 1, tokens[row, index]]) for row, index in places]
    return np.array(losses).reshape(len(tokens), -1)


@every_kind
def test_losses_are_those_of_the_wrapped_model(models: dict[str, Any], kind: str) -> None:
    tokens = ih.random_tokens(models[kind], n_examples=2, length=15)
    losses = ih.token_losses(models[kind], ih.EvalSet.from_tokens(tokens), keep="all")
    np.testing.assert_allclose(losses.full, _slow_losses(models[kind], tokens), atol=2e-5)


def _output_projection(model: Any, layer: int) -> torch.nn.Module:
    """The matrix behind z in the wrapped model, whatever its name."""
    return model.blocks[layer].attn.o.original_component


def _without_head(head: int, d_head: int) -> Callable[..., tuple[torch.Tensor]]:
    def zero(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        z = arguments[0].clone()
        z[..., head * d_head : (head + 1) * d_head] = 0
        return (z,)

    return zero


@every_kind
@pytest.mark.parametrize("ablated", ["L0H1", "L1H3"])
def test_full_ablation_zeroes_what_the_wrapped_model_gives_its_output_matrix(
    models: dict[str, Any], kind: str, ablated: str
) -> None:
    model, (layer, head) = models[kind], ih.HeadIndex.parse(ablated)
    tokens = ih.random_tokens(model, n_examples=2, length=15)
    found = ih.ablate_heads(model, ih.EvalSet.from_tokens(tokens), kind="full", heads=[ablated], progress=False)
    hook = _output_projection(model, layer).register_forward_pre_hook(_without_head(head, model.cfg.d_head))
    try:
        slow = _slow_losses(model, tokens)
    finally:
        hook.remove()
    np.testing.assert_allclose(found.by_context_index[layer, head], slow.mean(axis=0), atol=2e-5)
    assert np.abs(slow - _slow_losses(model, tokens)).max() > 1e-3


@every_kind
def test_preserved_patterns_make_no_difference_in_the_last_layer_and_a_difference_before(
    models: dict[str, Any], kind: str
) -> None:
    evals = ih.EvalSet.from_tokens(ih.random_tokens(models[kind], n_examples=2, length=15))
    full, preserving = (
        ih.ablate_heads(models[kind], evals, kind=which, progress=False).by_context_index.to_numpy()
        for which in ("full", "pattern_preserving")
    )
    np.testing.assert_allclose(preserving[1], full[1], atol=2e-5)
    assert np.abs(preserving[0] - full[0]).max() > 1e-3


def test_prefix_matching_of_a_native_model_is_that_of_its_weights(models: dict[str, Any]) -> None:
    model = models["native, attention-only"]
    tokens = ih.repeated_random_tokens(model, n_examples=2, length=6, repeats=3)
    found = ih.prefix_matching_score(model, tokens, has_bos=True)
    for head in range(model.cfg.n_heads):
        assert float(found[0, head]) == pytest.approx(_slow_prefix_matching(model, tokens, head), abs=1e-5)


def _slow_prefix_matching(model: Any, tokens: torch.Tensor, head: int) -> float:
    """Of a head of the first layer, from the wrapped model's own parameters, one query at a time."""
    wrapped = model.original_model
    block, d_head = wrapped.layers[0], model.cfg.d_head
    rows = slice(head * d_head, (head + 1) * d_head)
    totals: list[float] = []
    for example in tokens:
        with torch.no_grad():
            stream = wrapped.tok_embed(example) + wrapped.pos.weight[: len(example)]
            x = block.ln1(stream)
            q, k = block.attn.q(x)[:, rows], block.attn.k(x)[:, rows]
        per_query: list[float] = []
        for query in range(len(example)):
            earlier = [key for key in range(1, query) if example[key] == example[query]]
            if example[query] == example[0] or not earlier:
                continue
            pattern = (q[query] @ k[: query + 1].T / d_head**0.5).softmax(-1)
            per_query.append(sum(float(pattern[key + 1]) for key in earlier))
        totals.append(sum(per_query) / len(per_query))
    return sum(totals) / len(totals)
