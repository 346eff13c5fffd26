"""The fused forward pass of drawn models against the hooked one: logits, loss and every gradient."""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from ih_lens.models.fused_forward import fused_logits
from tests.drawn_models import FORMS, POSITIONS, drawn_models, drawn_tokens, draws

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def _gradients(loss: torch.Tensor, model: Any) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


def _mean_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    shares = logits[:, :-1].log_softmax(dim=-1)
    return -shares.gather(-1, tokens[:, 1:, None]).mean()


def _compare(model: Any, tokens: torch.Tensor) -> None:
    atol = TOLERANCE[model.cfg.dtype]
    slow, fast = model(tokens), fused_logits(model, tokens)
    torch.testing.assert_close(fast, slow, rtol=0, atol=atol)
    expected = model(tokens, return_type="loss")
    loss = _mean_loss(fast, tokens)
    torch.testing.assert_close(loss, expected, rtol=0, atol=atol)
    names = [name for name, _ in model.named_parameters()]
    pairs = zip(names, _gradients(loss, model), _gradients(expected, model), strict=True)
    for name, one, other in pairs:
        allowed = max(atol, TOLERANCE[other.dtype])
        torch.testing.assert_close(one, other, rtol=0, atol=allowed, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("form", FORMS)
@draws(10)
@given(data=st.data())
def test_float64(positions: str, form: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], forms=[form]))
    _compare(recipe.build(), data.draw(drawn_tokens(recipe, longest=30)))


@draws(25)
@given(data=st.data())
def test_float32(data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(dtypes=[torch.float32]))
    _compare(recipe.build(), data.draw(drawn_tokens(recipe, longest=30)))


@pytest.mark.parametrize("positions", POSITIONS)
@draws(4)
@given(data=st.data())
def test_contexts_of_several_blocks_of_queries(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], max_layers=2, n_ctx=(300, 400)))
    tokens = data.draw(drawn_tokens(recipe, n_examples=(1, 2), min_length=130, longest=400))
    window = data.draw(st.integers(1, 300))
    _compare(recipe.build(**({"window_size": window} if "window_size" in recipe.sizes else {})), tokens)
