"""The loss by classes of tokens, against sums over tokens one by one."""

import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih
from tests.analysis.made_up import losses_of, stacked
from tests.helpers import random_tokens, tiny_model

N_EXAMPLES, N_INDICES = 9, 11


def _classes(seed: int = 0) -> dict[str, torch.Tensor]:
    kind = torch.randint(0, 3, (N_EXAMPLES, N_INDICES + 1), generator=torch.Generator().manual_seed(seed))
    return {name: kind == number for number, name in enumerate(("one", "two", "three"))}


def _full(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(4, 1, (N_EXAMPLES, N_INDICES))


def test_means_and_shares_are_those_of_single_tokens() -> None:
    full, classes = _full(), _classes()
    split = ih.loss_split(losses_of(full, keep_all=True), classes)
    for name, mask in classes.items():
        inside = mask[:, 1:].numpy()
        assert split.value.sel(token_class=name).item() == pytest.approx(full[inside].mean())
        assert split.value["share"].sel(token_class=name).item() == pytest.approx(inside.mean())


def test_standard_errors_are_those_of_a_jackknife_over_examples() -> None:
    """Of a ratio of sums, to first order: with many examples the two agree."""
    generator = np.random.default_rng(0)
    full = generator.normal(4, 1, (400, N_INDICES)) + generator.normal(0, 2, (400, 1))
    masks = {"some": torch.from_numpy(generator.random((400, N_INDICES + 1)) < 0.3)}
    split = ih.loss_split(losses_of(full, keep_all=True), masks)
    inside = masks["some"][:, 1:].numpy()
    without = [full[np.arange(400) != n][inside[np.arange(400) != n]].mean() for n in range(400)]
    jackknife = np.sqrt(399 / 400 * ((without - np.mean(without)) ** 2).sum())
    assert split.stderr.item() == pytest.approx(jackknife, rel=0.01)
    assert jackknife > 1.5 * full[inside].std() / np.sqrt(inside.sum())  # tokens of an example go together


def test_views_are_used_in_the_order_of_what_they_hold() -> None:
    full, classes = _full(), _classes()
    by_index = ih.loss_split(losses_of(full, at=(3, 5, 9)), classes)
    inside = classes["two"][:, [3, 5, 9]].numpy()
    assert by_index.value.attrs["view"] == "at_indices"
    assert by_index.value.sel(token_class="two").item() == pytest.approx(full[:, [2, 4, 8]][inside].mean())
    random = ih.loss_split(losses_of(full), classes)
    at_random = [(n, 1 + n % N_INDICES) for n in range(N_EXAMPLES)]
    chosen = [full[n, i - 1] for n, i in at_random if classes["two"][n, i]]
    assert random.value.attrs["view"] == "random_token"
    assert random.value.sel(token_class="two").item() == pytest.approx(np.mean(chosen))


def test_snapshots_and_heads_are_split_one_by_one() -> None:
    classes, first, second = _classes(), _full(1), _full(2)
    both = stacked(losses_of(first, keep_all=True), losses_of(second, keep_all=True))
    split = ih.loss_split(both, classes)
    assert split.value.dims == ("snapshot", "token_class")
    assert split.value["step"].to_numpy().tolist() == [0, 10]
    alone = ih.loss_split(losses_of(second, keep_all=True), classes)
    np.testing.assert_allclose(split.value.isel(snapshot=1), alone.value)
    np.testing.assert_allclose(split.stderr.isel(snapshot=1), alone.stderr)


def test_changes_are_paired_over_examples() -> None:
    full, classes = _full(), _classes()
    harder = full + np.where(classes["one"][:, 1:].numpy(), 0.5, 0.0)
    ablated = losses_of(np.stack([np.stack([harder, full])]), leading={"layer": [0], "head": [0, 1]}, keep_all=True)
    change = ih.loss_split(ablated, classes, minus=losses_of(full, keep_all=True))
    assert change.value.dims == ("layer", "head", "token_class")
    np.testing.assert_allclose(change.value[0], [[0.5, 0, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(change.stderr[0], 0, atol=1e-12)


def test_a_class_without_tokens_has_no_loss() -> None:
    classes = {**_classes(), "none": torch.zeros(N_EXAMPLES, N_INDICES + 1, dtype=torch.bool)}
    split = ih.loss_split(losses_of(_full(), keep_all=True), classes)
    assert np.isnan(split.value.sel(token_class="none").item())
    assert split.value["share"].sel(token_class="none").item() == 0
    assert split.value.sel(token_class="one").notnull().item()


@pytest.mark.parametrize("window", [0, 1, 2])
def test_parts_of_the_in_context_learning_score_sum_to_it(window: int) -> None:
    losses, classes = losses_of(_full(), keep_all=True), _classes()
    parts = ih.in_context_learning_split(losses, classes, late=10, early=3, window=window)
    score = ih.in_context_learning_score(losses, late=10, early=3, window=window)
    assert parts.value.sum("part").item() == pytest.approx(score.item())
    assert list(parts.value["part"].to_numpy()) == ["one", "two", "three", "changing shares"]


def test_parts_tell_better_prediction_from_changing_shares() -> None:
    easy = torch.zeros(40, 12, dtype=torch.bool)
    easy[:10, 2], easy[:30, 10] = True, True
    full = np.where(easy[:, 1:].numpy(), 1.0, 3.0)
    losses = losses_of(full, keep_all=True)
    parts = ih.in_context_learning_split(losses, {"easy": easy, "rest": ~easy}, late=10, early=2).value
    assert parts.sel(part="easy").item() == parts.sel(part="rest").item() == 0
    assert parts.sel(part="changing shares").item() == pytest.approx(-1.0)  # half of the tokens became easy
    full[:, 9] -= np.where(easy[:, 10], 0.4, 0.0)
    better = ih.in_context_learning_split(
        losses_of(full, keep_all=True), {"easy": easy, "rest": ~easy}, late=10, early=2
    )
    assert better.value.sel(part="easy").item() == pytest.approx(-0.4 * 0.5)
    assert better.value.sel(part="rest").item() == 0


def test_standard_errors_of_the_parts_cover_the_truth() -> None:
    generator, found = np.random.default_rng(0), []
    for _ in range(100):
        easy = torch.from_numpy(generator.random((60, 12)) < np.linspace(0.2, 0.7, 12))
        full = np.where(easy[:, 1:].numpy(), 1.0, 3.0) + generator.normal(0, 0.5, (60, 11))
        classes = {"easy": easy, "rest": ~easy}
        parts = ih.in_context_learning_split(losses_of(full, keep_all=True), classes, late=10, early=2)
        shifted = parts.value.sel(part="changing shares").item()
        truth = -2.0 * (0.5 / 11 * 8)
        found.append((shifted - truth) / parts.stderr.sel(part="changing shares").item())
    assert 0.85 < np.std(found) < 1.15
    assert abs(np.mean(found)) < 0.3


def test_measured_in_pieces_it_is_the_same_as_from_all_losses() -> None:
    model = tiny_model("shortformer")
    tokens = random_tokens(model, n_examples=7, length=30)
    evals = ih.EvalSet.from_tokens(tokens)
    whole = ih.loss_split(ih.token_losses(model, evals, keep="all"), ih.token_classes(tokens))
    pieces = ih.loss_split(ih.class_losses(model, evals, examples_at_once=2, progress=False))
    xr.testing.assert_allclose(whole.value.drop_attrs(), pieces.value.drop_attrs())
    np.testing.assert_allclose(whole.stderr, pieces.stderr)
    ones = {"all": torch.ones_like(tokens, dtype=torch.bool)}
    everything = ih.loss_split(ih.class_losses(model, evals, ones, progress=False))
    assert everything.value.item() == pytest.approx(ih.token_losses(model, evals).by_context_index.mean().item())


def test_refuses_what_does_not_fit() -> None:
    losses, classes = losses_of(_full(), keep_all=True), _classes()
    with pytest.raises(ih.InputError, match="pass token_classes"):
        ih.loss_split(losses)
    with pytest.raises(ih.InputError, match="expected masks"):
        ih.loss_split(losses, {"short": torch.ones(N_EXAMPLES, 4, dtype=torch.bool)})
    with pytest.raises(ih.InputError, match="at least one mask"):
        ih.loss_split(losses, {})
    with pytest.raises(ih.InputError, match="exactly one class"):
        ih.in_context_learning_split(losses, {"one": classes["one"]}, late=10, early=3)
    with pytest.raises(ih.InputError, match="were not kept"):
        ih.in_context_learning_split(losses_of(_full()), classes, late=10, early=3)
    with pytest.raises(ih.FingerprintError):
        ih.loss_split(losses, classes, minus=losses_of(_full(), keep_all=True, fingerprint="other"))
    with pytest.raises(ih.InputError, match="other tokens"):
        ih.loss_split(losses, classes, minus=losses_of(_full()))
