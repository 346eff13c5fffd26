import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked

AT = {"late": 9, "early": 2}


def test_effects_on_the_loss_are_paired_by_example() -> None:
    ablated, unablated = random_ablations(1), random_losses(2)
    effect = ih.ablation_effects(ablated, unablated)
    for layer, head in np.ndindex(2, 3):
        change = [
            float(ablated.random_token[layer, head, example]) - float(unablated.random_token[example])
            for example in range(7)
        ]
        assert effect.value[layer, head] == pytest.approx(np.mean(change))
        assert effect.stderr[layer, head] == pytest.approx(np.std(change, ddof=1) / 7**0.5)
    assert effect.value.attrs["definition"].startswith("loss at the random token")


def test_effects_on_in_context_learning_are_the_attribution_with_its_error() -> None:
    ablated, unablated = random_ablations(1), random_losses(2)
    effect = ih.ablation_effects(ablated, unablated, on="in_context_learning", **AT)
    attribution = ih.attribution_to_in_context_learning(ablated, unablated, **AT)
    np.testing.assert_allclose(effect.value, attribution)
    np.testing.assert_allclose(effect.stderr, attribution.stderr)


def test_effects_along_the_vector_are_the_attribution_with_an_error_of_its_terms() -> None:
    ablated, unablated = random_ablations(1), random_losses(2)
    vector = ih.before_and_after_vector(random_losses(3), random_losses(4))
    effect = ih.ablation_effects(ablated, unablated, on="before_and_after", vector=vector)
    np.testing.assert_allclose(effect.value, ih.attribution_to_before_and_after(ablated, unablated, vector))
    change = (ablated.random_token - unablated.random_token).to_numpy() * vector.to_numpy()
    np.testing.assert_allclose(effect.stderr, 7**0.5 * change.std(axis=-1, ddof=1))
    with pytest.raises(ih.InputError, match="needs vector=before_and_after_vector"):
        ih.ablation_effects(ablated, unablated, on="before_and_after")


def test_heads_that_were_not_ablated_stay_undefined_and_snapshots_stay_apart() -> None:
    ablated, unablated = random_ablations(1), random_losses(2)
    ablated.dataset["random_token"][0, 1] = np.nan
    effect = ih.ablation_effects(ablated, unablated)
    for found in (effect.value, effect.stderr, effect.p_value(0.0)):
        assert found[0, 1].isnull()
        assert int(found.isnull().sum()) == 1
    assert effect.confidence_interval()[0, 1].isnull().all()
    over = ih.ablation_effects(stacked(ablated, ablated), stacked(unablated, random_losses(5)))
    assert over.value.dims == ("snapshot", "layer", "head")
    np.testing.assert_allclose(over.stderr.isel(snapshot=0), effect.stderr)


def test_the_order_of_examples_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    of_ablated, of_model = generator.normal(4, 1, (1, 2, 8, 11)), generator.normal(4, 1, (8, 11))
    order = generator.permutation(8)
    both = []
    for ablated, model in ((of_ablated, of_model), (of_ablated[:, :, order], of_model[order])):
        leading = {"layer": range(1), "head": range(2)}
        effect = ih.ablation_effects(
            losses_of(ablated, leading=leading), losses_of(model), on="in_context_learning", **AT
        )
        both.append((effect.value, effect.stderr, effect.confidence_interval(), effect.p_value(0.0)))
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other)


def test_pairing_makes_intervals_of_differences_hold_and_narrow() -> None:
    """400 sets of examples whose difficulty both models share, and a true effect of 0.1 nats."""
    generator, n_held, widths = np.random.default_rng(1), 0, []
    for _ in range(400):
        hard = generator.exponential(3, (20, 11))
        ablated = losses_of((hard + generator.normal(0.1, 0.2, hard.shape))[None], leading={"group": ["L0H0"]})
        effect = ih.ablation_effects(ablated, losses_of(hard))
        low, high = effect.confidence_interval(0.9, method="t").to_numpy()[0]
        n_held += low <= 0.1 <= high
        widths.append(high - low)
    assert abs(n_held / 400 - 0.9) < 4 * (0.09 / 400) ** 0.5
    assert np.mean(widths) < 0.2  # unpaired it would be above 3


def test_the_in_context_learning_score_has_an_estimate() -> None:
    losses = random_losses(3)
    estimate, score = ih.in_context_learning_estimate(losses, **AT), ih.in_context_learning_score(losses, **AT)
    assert float(estimate.value) == pytest.approx(float(score))
    assert float(estimate.stderr) == pytest.approx(float(score.stderr))
    assert estimate.confidence_interval().dims == ("bound",)


def test_only_means_give_no_spread() -> None:
    ablated, unablated = random_ablations(1, at=(3,)), random_losses(2, at=(3,))
    for call in (
        lambda: ih.ablation_effects(ablated, unablated, on="in_context_learning", **AT),
        lambda: ih.in_context_learning_estimate(unablated, **AT),
    ):
        with pytest.raises(ih.InputError, match="only means over examples were kept"):
            call()


def test_losses_of_other_examples_are_refused() -> None:
    with pytest.raises(ih.FingerprintError, match="different examples"):
        ih.ablation_effects(random_ablations(1), random_losses(2, fingerprint="other"))
    with pytest.raises(ih.InputError, match="on: expected one of loss"):
        ih.ablation_effects(random_ablations(1), random_losses(2), on="accuracy")
