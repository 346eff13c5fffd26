"""The fused way of looking at attention against the hooked one, and when each is taken."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.measure.attention import (
    AttentionReduction,
    forward_used,
    measure_attention,
    reduce_attention,
    visit_attention,
)
from ih_lens.measure.fused_attention import EMBEDDING, FINAL_SCALE, POSITIONS, LayerAttention, mlp_name
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.twins import patterns
from tests.models.bridges import tiny_bridge

LONG = {"n_ctx": 300}


def seen(model: Any, tokens: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
    """Everything that a visit shows, blocks of queries put together again."""
    n_pos, found = tokens.shape[1], {}

    def visit(attention: LayerAttention) -> None:
        first, (n_queries, n_keys) = attention.first_query, attention.pattern.shape[2:]
        shape = (*attention.pattern.shape[:2], n_pos, n_pos)
        whole = found.setdefault(f"pattern {attention.layer}", torch.zeros(shape, dtype=torch.float64))
        whole[:, :, first : first + n_queries, :n_keys] = attention.pattern.detach()
        if attention.values is not None:
            found[f"values {attention.layer}"] = attention.values.detach().clone()

    visit_attention(model, tokens, visit, **options)
    return found


def hooked(model: Any) -> Any:
    """The model with a hook that changes nothing."""
    model.add_hook("blocks.0.hook_resid_pre", lambda residual, hook: residual)
    return model


@pytest.mark.parametrize("by_queries", [False, True])
@pytest.mark.parametrize("kind", ZOO)
def test_fused_and_hooked_show_the_same(kind: str, by_queries: bool) -> None:
    model = tiny_model(kind, **LONG)
    tokens = random_tokens(model, n_examples=2, length=270)
    assert forward_used(model) == "fused"
    fused = seen(model, tokens, with_values=True, by_queries=by_queries)
    assert forward_used(hooked(model)) == "hooked"
    slow = seen(model, tokens, with_values=True)
    assert fused.keys() == slow.keys()
    for name, values in slow.items():
        torch.testing.assert_close(fused[name], values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ZOO)
def test_watched_activations_are_those_of_the_hooks(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    names = [EMBEDDING, *([] if model.cfg.attn_only else map(mlp_name, range(model.cfg.n_layers)))]
    names += [POSITIONS] if model.cfg.positional_embedding_type == "standard" else []
    names += [FINAL_SCALE] if model.cfg.normalization_type else []
    ways = []
    for way in (model, hooked(tiny_model(kind))):
        kept: dict[str, torch.Tensor] = {}
        watched = {name: lambda value, name=name, kept=kept: kept.update({name: value.clone()}) for name in names}
        visit_attention(way, tokens, lambda attention: None, watched=watched)
        ways.append(kept)
    assert ways[0].keys() == ways[1].keys() == set(names)
    for name in names:
        torch.testing.assert_close(ways[0][name], ways[1][name].expand_as(ways[0][name]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["with_mlps", "local", "alibi"])
def test_measures_in_blocks_of_queries_agree_with_whole_patterns(kind: str) -> None:
    model, slow = tiny_model(kind, **LONG), hooked(tiny_model(kind, **LONG))
    tokens = random_tokens(model, n_examples=2, length=270)
    for measure in (
        ih.prefix_matching_score,
        ih.previous_token_score,
        ih.copying_score,
        ih.logit_attribution,
        lambda *given: ih.logit_terms(*given).heads,
        lambda *given: ih.logit_terms(*given).biases,
        lambda *given: ih.logit_attribution(*given, layers=[1], ln_scale=False),
    ):
        torch.testing.assert_close(measure(model, tokens), measure(slow, tokens), rtol=0, atol=1e-9)


def test_only_the_layers_asked_for_are_shown_and_no_later_one_is_run() -> None:
    model = tiny_model("three_layers")
    model.blocks[2].attn.W_Q.data.fill_(torch.nan)
    found = seen(model, random_tokens(model), layers=[1])
    assert list(found) == ["pattern 1"]
    assert found["pattern 1"].isfinite().all()


def test_what_hooks_change_is_seen() -> None:
    model = tiny_model("with_mlps")
    tokens = random_tokens(model)
    before = ih.previous_token_score(model, tokens)
    model.add_hook("blocks.0.hook_attn_out", lambda written, hook: written * 0)
    after = ih.previous_token_score(model, tokens)
    assert not torch.allclose(before[1], after[1])
    slow = patterns(model, tokens).diagonal(-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
    torch.testing.assert_close(after, slow, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [lambda: tiny_model("with_mlps", output_logits_soft_cap=30.0), None])
def test_models_outside_the_fused_layers_are_run_with_hooks(make: Any, tmp_path: Path) -> None:
    model = make() if make else tiny_bridge("gpt2", tmp_path)
    assert forward_used(model) == "hooked"
    assert ih.score_heads(model, length=8).attrs["forward"] == "hooked"


def test_several_reductions_share_one_run() -> None:
    model = tiny_model("with_mlps")
    tokens, runs = random_tokens(model), []
    count = AttentionReduction(lambda attention, _: runs.append(attention.layer) or attention.pattern[:, :, -1, 0])
    values = AttentionReduction(lambda attention, _: attention.values.sum(dim=(1, 3)), with_values=True)
    first, second = measure_attention(model, tokens, [count, values])
    assert runs == [0, 1]
    torch.testing.assert_close(first, patterns(model, tokens)[:, :, :, -1, 0].mean(dim=0), rtol=0, atol=1e-9)
    alone = reduce_attention(model, tokens, values.reduce, with_values=True, batch_size=1)
    torch.testing.assert_close(second, alone.mean(dim=0), rtol=0, atol=1e-9)
