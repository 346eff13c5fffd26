"""The folded layers give the model's own residual stream and logits."""

import pytest
import torch

import ih_lens as ih
from ih_lens.models.folded import FoldedModel
from tests.helpers import ZOO, random_tokens, tiny_model


@pytest.mark.parametrize("kind", sorted(ZOO))
def test_layer_by_layer_the_logits_are_the_models(kind):
    model = tiny_model(kind)
    tokens = random_tokens(model)
    folded = FoldedModel.of(model)
    with torch.no_grad():
        residual = folded.embed(tokens)
        for layer in folded.layers:
            residual = layer(residual)
        logits = folded.final_scale.of(residual) * (folded.before_unembedding(residual) @ folded.W_U) + folded.b_U
        torch.testing.assert_close(logits, model(tokens), rtol=0, atol=1e-9)


def test_a_rotation_at_given_positions_is_that_of_the_whole():
    layer = FoldedModel.of(tiny_model("rotary")).layers[0]
    x = torch.randn(2, 12, 4, layer.d_head, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[3, 3, 11], [0, 7, 1]])
    whole = layer.rotate(x)
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(layer.rotate(x[rows, positions], positions), whole[rows, positions])


def test_what_is_not_covered_is_refused():
    model = tiny_model("attention_only")
    model.cfg.output_logits_soft_cap = 30.0
    with pytest.raises(ih.CapabilityError, match="soft-capped"):
        FoldedModel.of(model)
