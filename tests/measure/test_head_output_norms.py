import pytest
import torch

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model


@pytest.mark.parametrize("kind", ZOO)
def test_lengths_are_those_of_the_cache(kind: str) -> None:
    model = tiny_model(kind)
    evals = ih.EvalSet.from_tokens(random_tokens(model, n_examples=5))
    _, cache = model.run_with_cache(evals.tokens)
    expected = torch.stack(
        [
            torch.einsum("bphd,hdm->bphm", cache["z", layer], model.W_O[layer]).norm(dim=-1).mean(dim=(0, 1))
            for layer in range(model.cfg.n_layers)
        ]
    )
    found = ih.head_output_norms(model, evals)
    torch.testing.assert_close(found, expected.detach().float())
    torch.testing.assert_close(ih.head_output_norms(model, evals, batch_size=2), found)
