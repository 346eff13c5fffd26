"""Changes of single tokens' losses, and the course of chosen ones."""

import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_losses, stacked


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(4, 1, (7, 11))


def test_differences_are_after_minus_before() -> None:
    first, second = (losses_of(numbers(seed), keep_all=True) for seed in (0, 1))
    found = ih.token_loss_differences(first, second)
    assert found.dims == ("example", "context_index")
    np.testing.assert_allclose(found, numbers(1) - numbers(0))
    np.testing.assert_array_equal(found["loss_before"], numbers(0))
    np.testing.assert_array_equal(found["loss_after"], numbers(1))
    assert found["context_index"].to_numpy().tolist() == list(range(1, 12))
    assert found.attrs["unit"] == "nats"
    assert found.attrs["fingerprint"] == "made up"


def test_differences_within_a_stack() -> None:
    singles = [losses_of(numbers(seed), keep_all=True) for seed in range(4)]
    for places in ((0, -1), (1, 2), (3, 0)):
        found = ih.token_loss_differences(stacked(*singles), snapshots=places)
        expected = ih.token_loss_differences(singles[places[0]], singles[places[1]])
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found["loss_after"], expected["loss_after"])


def test_differences_need_the_same_examples_and_every_loss() -> None:
    whole = random_losses(0, keep_all=True)
    with pytest.raises(ih.FingerprintError, match="different examples"):
        ih.token_loss_differences(whole, random_losses(0, keep_all=True, fingerprint="others"))
    with pytest.raises(ih.InputError, match='keep="all"'):
        ih.token_loss_differences(whole, random_losses(0))
    with pytest.raises(ih.InputError, match="join the losses of snapshots with stack_snapshots"):
        ih.token_loss_differences(whole)
    with pytest.raises(ih.InputError, match="pass a stack alone"):
        ih.token_loss_differences(whole, stacked(whole, whole))
    with pytest.raises(ih.InputError, match="no place 2 among 2 snapshots"):
        ih.token_loss_differences(stacked(whole, whole), snapshots=(0, 2))


def test_chosen_tokens_over_training() -> None:
    singles = [losses_of(numbers(seed), keep_all=True) for seed in range(3)]
    chosen = [(6, 1), (0, 11), (0, 5)]
    found = ih.chosen_token_losses(stacked(*singles), chosen)
    assert found.dims == ("snapshot", "token")
    for snapshot in range(3):
        for token, (example, index) in enumerate(chosen):
            assert found[snapshot, token].item() == numbers(snapshot)[example, index - 1]
    assert found["example"].to_numpy().tolist() == [6, 0, 0]
    assert found["context_index"].to_numpy().tolist() == [1, 11, 5]
    assert found["tokens_elapsed"].to_numpy().tolist() == [0, 1000, 2000]


@pytest.mark.parametrize("place", [(0, 0), (0, 12), (7, 1), (-1, 1)])
def test_chosen_tokens_must_have_a_loss(place: tuple[int, int]) -> None:
    losses = stacked(*[random_losses(seed, keep_all=True) for seed in range(2)])
    with pytest.raises(ih.InputError, match="there is no loss of the token"):
        ih.chosen_token_losses(losses, [(0, 1), place])
    with pytest.raises(ih.InputError, match="at least one token"):
        ih.chosen_token_losses(losses, [])
