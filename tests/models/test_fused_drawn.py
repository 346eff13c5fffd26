"""The fused forward pass of drawn models against the hooked one: logits, loss and every gradient."""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from ih_lens.models.fused_forward import fused_loss
from tests.drawn_models import FORMS, POSITIONS, drawn_models, drawn_tokens, draws
from tests.helpers import fused_logits

VOCABULARY = {"d_vocab": 4200, "d_vocab_out": 4200}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def _gradients(value: torch.Tensor, model: Any) -> dict[str, torch.Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value, parameters, materialize_grads=True), strict=True))


def _compare_gradients(fast: torch.Tensor, slow: torch.Tensor, model: Any, atol: float) -> None:
    expected = _gradients(slow, model)
    for name, found in _gradients(fast, model).items():
        allowed = max(atol, TOLERANCE[found.dtype])  # an activation function may have its own, in float32
        torch.testing.assert_close(
            found, expected[name], rtol=0, atol=allowed, msg=lambda text, name=name: f"{name}: {text}"
        )


def _compare(model: Any, tokens: torch.Tensor) -> None:
    atol = TOLERANCE[model.cfg.dtype]
    slow, fast = model(tokens), fused_logits(model, tokens)
    torch.testing.assert_close(fast, slow, rtol=0, atol=atol)
    weights = torch.randn(slow.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(slow)
    _compare_gradients((fast * weights).mean(), (slow * weights).mean(), model, atol)
    slow, fast = model(tokens, return_type="loss"), fused_loss(model, tokens)
    torch.testing.assert_close(fast, slow, rtol=0, atol=atol)
    _compare_gradients(fast, slow, model, atol)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("form", FORMS)
@draws(5)
@given(data=st.data())
def test_float64(positions: str, form: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], forms=[form]))
    _compare(recipe.build(), data.draw(drawn_tokens(recipe, longest=30)))


@draws(20)
@given(data=st.data())
def test_float32(data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(dtypes=[torch.float32]))
    _compare(recipe.build(), data.draw(drawn_tokens(recipe, longest=30)))


@pytest.mark.parametrize("positions", POSITIONS)
@draws(4)
@given(data=st.data())
def test_contexts_of_several_blocks_and_losses_of_several_chunks(positions: str, data: st.DataObject) -> None:
    recipe = data.draw(drawn_models(positions=[positions], max_layers=2, n_ctx=(300, 400), fixed=VOCABULARY))
    _compare(recipe.build(), data.draw(drawn_tokens(recipe, n_examples=(1, 2), min_length=130, longest=400)))
