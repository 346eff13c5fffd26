import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.twins import patterns


@pytest.mark.parametrize("kind", ZOO)
def test_agrees_with_the_definition_on_any_model(kind: str) -> None:
    model = tiny_model(kind)
    tokens = random_tokens(model)
    slow = sum(
        patterns(model, tokens)[example, :, :, i, i - 1] for example in range(len(tokens)) for i in range(1, 20)
    ) / (len(tokens) * 19)
    torch.testing.assert_close(ih.previous_token_score(model, tokens), slow, rtol=0, atol=1e-9)


def test_a_window_of_one_position_gives_nan() -> None:
    model = tiny_model("local", window_size=1)
    scores = ih.previous_token_score(model, random_tokens(model))
    assert scores[1].isnan().all()
    assert not scores[0].isnan().any()


def test_single_tokens_are_refused() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="at least 2 tokens"):
        ih.previous_token_score(model, torch.tensor([[1]]))
