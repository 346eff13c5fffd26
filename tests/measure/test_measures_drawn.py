"""Head measures, attribution and losses of drawn models against loops written from the definitions."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

import ih_lens as ih
from tests.drawn_models import POSITIONS, DrawnModel, drawn_models, drawn_tokens, draws

POSITION_KINDS = pytest.mark.parametrize("positions", POSITIONS)


def _cache(model: Any, example: torch.Tensor) -> Any:
    with torch.no_grad():
        return model.run_with_cache(example[None])[1]


def _pattern(model: Any, example: torch.Tensor) -> torch.Tensor:
    """[layer, head, query, key]."""
    cache = _cache(model, example)
    return torch.stack([cache[f"blocks.{layer}.attn.hook_pattern"][0] for layer in range(model.cfg.n_layers)])


def _normalized(x: torch.Tensor, cfg: Any, *, final: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The stream [pos, d_model] behind a norm without gain and offset, and the norm's scale [pos, 1]."""
    if cfg.normalization_type is None:
        return x, torch.ones_like(x[:, :1])
    if _centres(cfg, final):
        x = x - x.mean(dim=1, keepdim=True)
    scale = ((x**2).mean(dim=1, keepdim=True) + cfg.eps).sqrt()
    return x / scale, scale


def _centres(cfg: Any, final: bool = False) -> bool:
    return str(cfg.normalization_type).startswith("LN") and not (final and cfg.final_rms)


def _reading(matrix: torch.Tensor, norm: Any, centres: bool) -> torch.Tensor:
    """A matrix [d_model, out] with the gain and the centring of the norm before it."""
    gain = getattr(norm, "w", None)
    matrix = matrix if gain is None else gain[:, None] * matrix
    return matrix - matrix.mean(dim=0, keepdim=True) if centres else matrix


def _head_matrices(model: Any, layer: int, head: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Effective W_Q, W_K, W_V and W_O of one head."""
    block, centres = model.blocks[layer], _centres(model.cfg)
    q, k, v = (
        _reading(matrix[head], block.ln1, centres) for matrix in (block.attn.W_Q, block.attn.W_K, block.attn.W_V)
    )
    return q, k, v, block.attn.W_O[head]


def _unembedding(model: Any) -> torch.Tensor:
    """The final norm's gain and centring in it, centred over the vocabulary."""
    matrix = _reading(model.unembed.W_U, getattr(model, "ln_final", None), _centres(model.cfg, final=True))
    return matrix - matrix.mean(dim=1, keepdim=True)


@torch.no_grad()
def _values(model: Any, example: torch.Tensor) -> torch.Tensor:
    """Value vectors less every bias [layer, head, pos, d_head], from the stream before each layer."""
    cache, found = _cache(model, example), []
    for layer, block in enumerate(model.blocks):
        normalized, _ = _normalized(cache[f"blocks.{layer}.hook_resid_pre"][0], model.cfg)
        gain = getattr(block.ln1, "w", 1.0)
        found.append(torch.stack([normalized * gain @ block.attn.W_V[head] for head in range(model.cfg.n_heads)]))
    return torch.stack(found)


def _prefix_targets(example: list[int], query: int, offset: int, n_prefix: int) -> list[int]:
    """Positions that a query should attend to: `offset` after the token behind each earlier equal prefix."""
    targets: list[int] = []
    for match in range(query):
        same = all(match - back >= 0 and example[match - back] == example[query - back] for back in range(n_prefix))
        if same and 0 <= match + 1 + offset <= query:
            targets.append(match + 1 + offset)
    return targets


def _prefix_matching(model: Any, tokens: torch.Tensor, offset: int, n_prefix: int, *, printed: bool) -> torch.Tensor:
    """[layer, head]; None of the queries of any example having a target is the caller's affair."""
    per_example: list[torch.Tensor] = []
    distances: list[int] = []
    for example in tokens:
        pattern, terms = _pattern(model, example), []
        for query in range(len(example)):
            targets = _prefix_targets(example.tolist(), query, offset, n_prefix)
            distances += [query - target for target in targets]
            attention = [pattern[:, :, query, target] for target in targets]
            if attention:
                terms += attention if printed else [torch.stack(attention).sum(dim=0)]
        if terms:
            per_example.append(torch.stack(terms).mean(dim=0))
    scores = torch.stack(per_example).mean(dim=0)
    for layer, block in enumerate(model.blocks):
        if block.attn.attn_type == "local" and min(distances) >= model.cfg.window_size:
            scores[layer] = torch.nan
    return scores


def _copying(model: Any, tokens: torch.Tensor, n_start: int, *, at_destination: bool) -> torch.Tensor:
    W_U, n_layers, n_heads = _unembedding(model).detach(), model.cfg.n_layers, model.cfg.n_heads
    scores = torch.zeros(n_layers, n_heads, dtype=torch.float64)
    for example in tokens:
        pattern, values, ids = _pattern(model, example), _values(model, example), example.tolist()
        sources, sample = range(n_start, len(ids)), sorted(set(ids[n_start:]))
        for layer in range(n_layers):
            for head in range(n_heads):
                sent = (values[layer, head] @ model.blocks[layer].attn.W_O[head] @ W_U).detach()
                weights = pattern[layer, head].clone()
                weights[:, :n_start] = 0
                attended = everything = 0.0
                for destination in range(len(ids)):
                    at_once = (weights[destination] @ sent).clamp(min=0)
                    for source in sources:
                        raised = at_once if at_destination else sent[source].clamp(min=0)
                        attended += float(weights[destination, source] * raised[ids[source]])
                        everything += float(weights[destination, source] * raised[sample].sum())
                share = attended / (attended + everything) if attended + everything else float("nan")
                scores[layer, head] += (4 * share - 1) / len(tokens)
    return scores


@st.composite
def _repetitive(draw: st.DrawFn, model: DrawnModel) -> torch.Tensor:
    """Tokens of at most six kinds, so that prefixes recur."""
    tokens = draw(drawn_tokens(model, n_examples=(1, 3), longest=16))
    return tokens % draw(st.integers(2, 6))


@POSITION_KINDS
@draws(8)
@given(data=st.data())
def test_prefix_matching(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], max_layers=3))
    model, tokens = recipe.build(), data.draw(_repetitive(recipe))
    offset, n_prefix = data.draw(st.integers(-2, 3)), data.draw(st.integers(1, 3))
    printed = data.draw(st.booleans())
    shift = offset - 2 if printed else offset
    arguments: dict[str, Any] = {"n_prefix": n_prefix, "batch_size": data.draw(st.none() | st.integers(1, 3))}
    asked = [_prefix_targets(row.tolist(), i, shift, n_prefix) for row in tokens for i in range(len(row))]
    reading = "printed" if printed else "induction"
    if not any(asked):
        with pytest.raises(ih.InputError, match="no token can be matched"):
            ih.prefix_matching_score(model, tokens, offset=offset, reading=reading, **arguments)
        return
    found = ih.prefix_matching_score(model, tokens, offset=offset, reading=reading, **arguments)
    torch.testing.assert_close(
        found, _prefix_matching(model, tokens, shift, n_prefix, printed=printed), rtol=0, atol=1e-9, equal_nan=True
    )
    if not printed:
        scan = ih.prefix_matching_offset_scan(model, tokens, [offset + 1, offset], **arguments)
        torch.testing.assert_close(scan[1], found, rtol=0, atol=1e-12, equal_nan=True)


@POSITION_KINDS
@draws(6)
@given(data=st.data())
def test_previous_token(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions]))
    model, tokens = recipe.build(), data.draw(drawn_tokens(recipe))
    expected = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64)
    for example in tokens:
        pattern = _pattern(model, example)
        for i in range(1, len(example)):
            expected += pattern[:, :, i, i - 1] / (len(example) - 1) / len(tokens)
    for layer, block in enumerate(model.blocks):
        if block.attn.attn_type == "local" and model.cfg.window_size == 1:
            expected[layer] = torch.nan
    found = ih.previous_token_score(model, tokens, batch_size=data.draw(st.none() | st.integers(1, 3)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, equal_nan=True)


@POSITION_KINDS
@draws(8)
@given(data=st.data())
def test_copying(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], max_layers=3, same_vocabularies=True))
    model, tokens = recipe.build(), data.draw(drawn_tokens(recipe, n_examples=(1, 3), longest=9))
    has_bos, rectified = data.draw(st.booleans()), data.draw(st.sampled_from(["source", "destination"]))
    if has_bos:
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, 1:].clamp(min=1)], dim=1)
    batch_size = data.draw(st.none() | st.integers(1, 3))
    found = ih.copying_score(model, tokens, has_bos=has_bos, rectified=rectified, batch_size=batch_size)
    expected = _copying(model, tokens, int(has_bos), at_destination=rectified == "destination")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, equal_nan=True)


@draws(25)
@given(data=st.data())
def test_ov_eigenvalues(data: st.DataObject) -> None:
    model = data.draw(drawn_models(same_vocabularies=True)).build()
    found = ih.ov_copying_eigenvalue_score(model)
    with torch.no_grad():
        for layer in range(model.cfg.n_layers):
            for head in range(model.cfg.n_heads):
                _, _, W_V, W_O = _head_matrices(model, layer, head)
                dense = model.embed.W_E @ W_V @ W_O @ _unembedding(model)
                eigenvalues = np.linalg.eigvals(dense.numpy())
                expected = eigenvalues.real.sum() / abs(eigenvalues).sum()
                assert abs(float(found[layer, head]) - expected) < 1e-9


@draws(25)
@given(data=st.data())
def test_qk_trace(data: st.DataObject) -> None:
    model = data.draw(drawn_models()).build()
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    shares = torch.rand(shape, generator=generator, dtype=torch.float64)
    found, W_E = ih.qk_eigenvalue_trace(model, shares), model.embed.W_E.detach()
    assert found[0].isnan().all()
    with torch.no_grad():
        for layer in range(1, shape[0]):
            for head in range(shape[1]):
                W_Q, W_K, _, _ = _head_matrices(model, layer, head)
                dense = torch.zeros(len(W_E), len(W_E), dtype=torch.float64)
                for earlier in range(layer):
                    for k in range(shape[1]):
                        _, _, W_V, W_O = _head_matrices(model, earlier, k)
                        dense += shares[earlier, k] * (W_E @ W_Q @ W_K.T @ (W_V @ W_O).T @ W_E.T)
                torch.testing.assert_close(found[layer, head], dense.trace(), rtol=1e-9, atol=1e-9)


@POSITION_KINDS
@draws(8)
@given(data=st.data())
def test_logit_attribution(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], max_layers=3, same_vocabularies=True))
    model, tokens = recipe.build(), data.draw(drawn_tokens(recipe, n_examples=(1, 3), longest=10))
    every = list(range(model.cfg.n_layers))
    layers = data.draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    ln_scale = data.draw(st.booleans())
    options: dict[str, Any] = {"batch_size": data.draw(st.none() | st.integers(1, 3))}
    found = ih.logit_attribution(model, tokens, ln_scale=ln_scale, layers=layers, **options)
    terms = ih.logit_terms(model, tokens, **options)
    W_U, last = _unembedding(model).detach(), tokens.shape[1] - 1
    for number, example in enumerate(tokens):
        pattern, values, cache = _pattern(model, example), _values(model, example), _cache(model, example)
        _, scale = _normalized(cache[f"blocks.{every[-1]}.hook_resid_post"][0], model.cfg, final=True)
        expected = torch.zeros(len(every), model.cfg.n_heads, last, last, dtype=torch.float64)
        for layer in every:
            for head in range(model.cfg.n_heads):
                logits = (values[layer, head] @ model.blocks[layer].attn.W_O[head] @ W_U).detach()
                for i in range(last):
                    for j in range(i + 1):
                        sent = logits[j, example[i + 1]] / (scale[i, 0] if ln_scale else 1.0)
                        expected[layer, head, i, j] = pattern[layer, head, i, j] * sent
        torch.testing.assert_close(found[number], expected[layers], rtol=0, atol=1e-9)
        with torch.no_grad():
            logits = model(example[None])[0]
        centred = logits - logits.mean(dim=-1, keepdim=True)
        next_logits = centred[:-1].gather(1, example[1:, None])[:, 0]
        torch.testing.assert_close(terms.total[number], next_logits, rtol=0, atol=1e-9)
        if ln_scale:
            torch.testing.assert_close(terms.heads[number], expected.sum(dim=-1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@draws(15)
@given(data=st.data())
def test_token_losses(dtype: torch.dtype, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(dtypes=[dtype]))
    model, tokens = recipe.build(), data.draw(drawn_tokens(recipe))
    evals, last = ih.EvalSet.from_tokens(tokens, seed=data.draw(st.integers(0, 100))), tokens.shape[1] - 1
    at = data.draw(st.lists(st.integers(1, last), min_size=1, unique=True))
    window, batch_size = data.draw(st.integers(0, 3)), data.draw(st.none() | st.integers(1, 5))
    found = ih.token_losses(model, evals, keep="all", at_indices=at, window=window, batch_size=batch_size)
    full = np.zeros((len(tokens), last))
    for number, example in enumerate(tokens):
        with torch.no_grad():
            shares = model(example[None])[0].double().log_softmax(dim=-1)
        full[number] = [-float(shares[i, example[i + 1]]) for i in range(last)]
    tolerance: dict[str, Any] = {"atol": 1e-9 if dtype == torch.float64 else 1e-4, "rtol": 0}
    np.testing.assert_allclose(found.full, full, **tolerance)
    np.testing.assert_allclose(found.by_context_index, full.mean(axis=0), **tolerance)
    random = full[np.arange(len(full)), evals.random_index - 1]
    np.testing.assert_allclose(found.random_token, random, **tolerance)
    around = [full[:, max(1, i - window) - 1 : i + window].mean(axis=1) for i in at]
    np.testing.assert_allclose(found.at_indices, np.stack(around, axis=1), **tolerance)


@draws(12)
@given(data=st.data())
def test_one_call_scores_every_head_as_single_calls_do(data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(n_ctx=(12, 24), max_layers=3, same_vocabularies=True))
    model, seed = recipe.build(), data.draw(st.integers(0, 100))
    sizes: dict[str, Any] = {"n_examples": data.draw(st.integers(1, 3)), "length": data.draw(st.integers(3, 5))}
    found = ih.score_heads(model, seed=seed, repeats=2, batch_size=data.draw(st.none() | st.integers(1, 2)), **sizes)
    once = ih.random_tokens(model, seed=seed, **sizes)
    repeated = ih.repeated_random_tokens(model, seed=seed, repeats=2, **sizes)
    previous = ih.previous_token_score(model, repeated)
    expected = {
        "prefix_matching": _prefix_matching(model, repeated, 0, 1, printed=False),
        "copying": _copying(model, once, 0, at_destination=False),
        "previous_token": previous,
        "ov_copying_eigenvalues": ih.ov_copying_eigenvalue_score(model),
        "qk_eigenvalue_trace": ih.qk_eigenvalue_trace(model, previous),
    }
    assert set(found.names) == set(expected)
    for name, scores in expected.items():
        torch.testing.assert_close(found.to_tensor(name), scores, rtol=1e-9, atol=1e-9, equal_nan=True)
