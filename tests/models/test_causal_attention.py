import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from ih_lens.models import causal_attention as module
from ih_lens.models.causal_attention import causal_attention, pattern_blocks
from tests.drawn_models import draws


def _twin(q, k, *, scale, window, slopes):
    """The pattern by its definition."""
    distance = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
    scores = scale * q @ k.mT
    if slopes is not None:
        scores = scores - slopes[:, None, None] * distance
    seen = (distance >= 0) & (distance < (window or q.shape[2]))
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def _inputs(batch, n_heads, n_pos, d_head, d_value, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, n_pos, n_heads, width) for width in (d_head, d_head, d_value)]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).transpose(1, 2) for shape in shapes)


@st.composite
def _cases(draw):
    batch, n_heads, n_pos = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 20))
    window = draw(st.none() | st.integers(1, 25))
    slopes = torch.rand(n_heads, dtype=torch.float64) if draw(st.booleans()) else None
    inputs = _inputs(batch, n_heads, n_pos, draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 99)))
    # small blocks and pieces, so that all of them meet in small examples
    limits = {
        "_BLOCK": draw(st.integers(1, 9)),
        "_CACHED_SCORES": draw(st.sampled_from([1, 100, 400, 10**6])),
        "_KEPT_SCORES": draw(st.sampled_from([0, 10**6])),
    }
    return inputs, {"scale": draw(st.sampled_from([0.3, 1.0])), "window": window, "slopes": slopes}, limits


@draws(60)
@given(case=_cases())
def test_agrees_with_its_definition_and_its_gradients(case):
    (q, k, v), terms, limits = case
    weights = torch.randn(v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    expected = _twin(*inputs[:2], **terms) @ inputs[2]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(module, name, value)
        found = causal_attention(*inputs, **terms)
        fast = torch.autograd.grad((found * weights).sum(), inputs)
        with torch.inference_mode():
            torch.testing.assert_close(causal_attention(q, k, v, **terms), expected.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    for one, other in zip(fast, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@draws(30)
@given(case=_cases())
def test_pattern_blocks_are_the_pattern(case):
    (q, k, _), terms, limits = case
    expected = _twin(q, k, **terms)
    found = torch.zeros_like(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", limits["_BLOCK"])
        stops = [0]
        for start, stop, pattern in pattern_blocks(q.requires_grad_(), k, **terms):
            assert start == stops[-1]
            assert not pattern.requires_grad
            stops.append(stop)
            found[:, :, start:stop, :stop] = pattern
    assert stops[-1] == q.shape[2]
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n_pos", "window"), [(127, None), (128, None), (300, None), (300, 40), (300, 200)])
def test_agrees_at_the_lengths_of_real_contexts(n_pos, window):
    q, k, v = _inputs(2, 3, n_pos, 8, 8)
    expected = _twin(q, k, scale=0.4, window=window, slopes=None) @ v
    torch.testing.assert_close(causal_attention(q, k, v, scale=0.4, window=window), expected, rtol=0, atol=1e-9)
    single = causal_attention(*(x.float() for x in (q, k, v)), scale=0.4, window=window)
    torch.testing.assert_close(single, expected.float(), rtol=0, atol=1e-5)


def test_inputs_are_left_as_they_are():
    inputs = _inputs(1, 2, 10, 4, 4)
    copies = [x.clone() for x in inputs]
    causal_attention(*inputs, scale=0.5)
    list(pattern_blocks(*inputs[:2], scale=0.5))
    assert all(torch.equal(one, other) for one, other in zip(inputs, copies, strict=True))


def test_computes_in_bfloat16_under_autocast():
    q, k, v = (x.float() for x in _inputs(2, 2, 40, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        found = causal_attention(q, k.bfloat16(), v, scale=0.3)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), causal_attention(q, k, v, scale=0.3), rtol=0, atol=0.05)


def test_second_derivatives_are_refused():
    q, k, v = (x.requires_grad_() for x in _inputs(1, 1, 5, 2, 2))
    (first,) = torch.autograd.grad(causal_attention(q, k, v, scale=1.0).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
