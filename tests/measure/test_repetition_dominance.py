"""What heads write towards repeated tokens, against sums over single positions."""

import numpy as np
import pytest
import torch

import ih_lens as ih
from tests.helpers import random_tokens, tiny_model
from tests.oracles import hand_built


@pytest.mark.parametrize("kind", ["shortformer", "with_mlps", "rotary"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_agrees_with_sums_over_single_positions(kind: str, batch_size: int | None) -> None:
    model = tiny_model(kind, d_vocab=3)
    tokens = random_tokens(model, n_examples=5, length=16)
    found = ih.repetition_dominance(model, tokens, max_repetitions=3, batch_size=batch_size)
    attribution = ih.logit_attribution(model, tokens)
    _, cache = model.run_with_cache(tokens)
    patterns = torch.stack([cache["pattern", layer] for layer in range(2)], dim=1)
    for count in range(4):
        rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for example, row in enumerate(tokens.tolist()):
            single: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
            for dest in range(15):
                sources = [s for s in range(1, dest + 1) if row[s] == row[dest + 1] and row[s - 1] == row[dest]]
                if len(sources) == count:
                    whole = attribution[example, :, :, dest]
                    copied = whole[..., sources].sum(-1)
                    single.append((patterns[example, :, :, dest, sources].sum(-1), copied, whole.sum(-1) - copied))
            if single:
                rows.append(tuple(torch.stack(each).mean(0) for each in zip(*single, strict=True)))
        assert found["n_examples"].sel(repetitions=count).item() == len(rows)
        for name, each in zip(
            ("attention", "attribution", "attribution_elsewhere"), zip(*rows, strict=True), strict=True
        ):
            values = torch.stack(each).numpy()
            np.testing.assert_allclose(found[name].sel(repetitions=count), values.mean(0), atol=1e-9)
            spread = values.std(0, ddof=1) / np.sqrt(len(values))
            np.testing.assert_allclose(found[f"{name}_stderr"].sel(repetitions=count), spread, atol=1e-9)


def test_an_induction_head_dominates_from_the_first_repetition_on() -> None:
    model = hand_built.induction_model()
    tokens = ih.repeated_random_tokens(model, length=10, repeats=5, n_examples=4, bos=23)
    found = ih.repetition_dominance(model, tokens, max_repetitions=4)
    induction = found.sel(layer=1, head=hand_built.INDUCTION)
    assert induction["attention"].to_numpy().tolist() == pytest.approx([0, 1, 1, 1, 1], abs=1e-6)
    assert induction["attribution"].sel(repetitions=0).item() == 0
    assert bool((induction["dominance"].sel(repetitions=slice(1, None)) > 0.3).all())
    assert bool((found["dominance"].sel(layer=1, head=hand_built.ANTI_COPYING)[1:] < -0.3).all())
    assert bool((abs(found["dominance"]).sum(["layer", "head"]) <= 1 + 1e-9).all())


def test_counts_that_do_not_occur_are_undefined() -> None:
    model = tiny_model("shortformer")
    tokens = ih.repeated_random_tokens(model, length=10, repeats=2, n_examples=3)
    found = ih.repetition_dominance(model, tokens, max_repetitions=3)
    assert found["n_examples"].to_numpy().tolist() == [3, 3, 0, 0]
    assert np.isnan(found["attention"].sel(repetitions=2)).all()


def test_refuses_tokens_without_repetition() -> None:
    model = tiny_model("shortformer")
    with pytest.raises(ih.InputError, match="nothing is repeated"):
        ih.repetition_dominance(model, torch.arange(20)[None])
