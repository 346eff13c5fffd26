import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked


def constant(*values: float) -> np.ndarray:
    """Losses of examples that are the same at every context index."""
    return np.tile(np.array(values)[:, None], (1, 11))


def test_vector_and_attribution_by_hand():
    start, end = losses_of(constant(5, 5, 5)), losses_of(constant(2, 1, 5))
    vector = ih.before_and_after_vector(start, end)
    np.testing.assert_allclose(vector, [-0.6, -0.8, 0.0])
    assert vector.attrs["length"] == pytest.approx(5.0)
    assert vector.dims == ("example",)
    heads = np.stack([constant(5, 5, 5), constant(2, 1, 9)])[None]  # the first head undoes the change, the second none
    ablated = losses_of(heads, leading={"layer": [0], "head": [0, 1]})
    attribution = ih.attribution_to_before_and_after(ablated, end, vector)
    assert attribution.dims == ("layer", "head")
    np.testing.assert_allclose(attribution, [[-5.0, 0.0]], atol=1e-12)
    assert attribution.attrs["unit"] == "nats"


def test_attribution_equals_a_loop_over_snapshots_and_heads():
    vector = ih.before_and_after_vector(random_losses(0), random_losses(1))
    ablated, unablated = [random_ablations(seed) for seed in (2, 3)], [random_losses(seed) for seed in (4, 5)]
    over_time = ih.attribution_to_before_and_after(stacked(*ablated), stacked(*unablated), vector)
    assert over_time.dims == ("snapshot", "layer", "head")
    for snapshot in range(2):
        for layer, head in np.ndindex(2, 3):
            change = ablated[snapshot].random_token[layer, head] - unablated[snapshot].random_token
            assert float(over_time[snapshot, layer, head]) == pytest.approx(sum(change.to_numpy() * vector.to_numpy()))


def test_heads_that_were_not_ablated_and_groups():
    vector = ih.before_and_after_vector(random_losses(0), random_losses(1))
    ablated = random_ablations(2)
    missing = ih.AblationLosses(ablated.dataset.where(ablated.dataset["head"] != 1))
    attribution = ih.attribution_to_before_and_after(missing, random_losses(3), vector)
    assert np.isnan(attribution[:, 1]).all()
    assert np.isfinite(attribution[:, [0, 2]]).all()
    grouped = losses_of(np.ones((1, 7, 11)), leading={"group": ["L0H0+L1H2"]})
    assert ih.attribution_to_before_and_after(grouped, random_losses(3), vector).dims == ("group",)


def test_a_snapshot_of_a_stack_serves_as_start_or_end():
    series = stacked(random_losses(0), random_losses(1))
    start, end = (ih.TokenLosses(series.dataset.isel(snapshot=place)) for place in (0, 1))
    expected = ih.before_and_after_vector(random_losses(0), random_losses(1))
    np.testing.assert_array_equal(ih.before_and_after_vector(start, end), expected)


def test_what_gives_no_direction():
    losses = random_losses(0)
    with pytest.raises(ih.InputError, match=r"differ by 0\.0 nats"):
        ih.before_and_after_vector(losses, losses)
    with pytest.raises(ih.InputError, match="differ by nan nats"):
        ih.before_and_after_vector(losses, losses_of(np.full((7, 11), np.nan)))
    with pytest.raises(ih.InputError, match="end: expected the losses of one snapshot"):
        ih.before_and_after_vector(losses, stacked(losses, losses))


def test_other_examples_are_refused():
    mine, other = random_losses(0), random_losses(1, fingerprint="other")
    vector = ih.before_and_after_vector(mine, random_losses(1))
    with pytest.raises(ih.FingerprintError):
        ih.before_and_after_vector(mine, other)
    with pytest.raises(ih.FingerprintError):
        ih.attribution_to_before_and_after(random_ablations(2), other, vector)
    with pytest.raises(ih.FingerprintError, match="vector belongs to the examples made up, the ablations to other"):
        ih.attribution_to_before_and_after(random_ablations(2, fingerprint="other"), other, vector)
    with pytest.raises(ih.InputError, match="a vector over 7 examples"):
        ih.attribution_to_before_and_after(random_ablations(2), mine, vector[:5])
    with pytest.raises(ih.InputError, match=r"expected the leading dimensions \[\]"):
        ih.attribution_to_before_and_after(random_ablations(2), random_ablations(3), vector)
