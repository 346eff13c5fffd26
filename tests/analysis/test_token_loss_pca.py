import numpy as np
import pytest

import ih_lens as ih
from tests.analysis.made_up import losses_of, random_ablations, random_losses, stacked

ONE = [random_losses(seed) for seed in (0, 1, 2)]
TWO = [random_losses(seed) for seed in (3, 4)]


def test_joint_fit_equals_a_plain_decomposition():
    pca = ih.token_loss_pca([stacked(*ONE), stacked(*TWO)], n_components=3)
    matrix = np.stack([losses.random_token.to_numpy() for losses in ONE + TWO])
    centred = matrix - matrix.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pca.mean, matrix.mean(axis=0))
    np.testing.assert_allclose(pca.explained_variance_ratio, (sizes**2 / (sizes**2).sum())[:3])
    signs = [np.sign(axis[np.abs(axis).argmax()]) for axis in axes[:3]]
    np.testing.assert_allclose(pca.components, axes[:3] * np.array(signs)[:, None], atol=1e-12)
    joined = np.concatenate([projection.to_numpy() for projection in pca.projections])
    np.testing.assert_allclose(joined, centred @ pca.components.T, atol=1e-12)


def test_largest_entry_of_each_component_is_positive():
    components = ih.token_loss_pca([stacked(*ONE), stacked(*TWO)]).components
    for component in components:
        assert component[np.abs(component).argmax()] > 0


def test_projections_are_labelled_and_in_order():
    pca = ih.token_loss_pca([stacked(*ONE), stacked(*TWO)])
    assert [projection.sizes["snapshot"] for projection in pca.projections] == [3, 2]
    assert pca.projections[0].dims == ("snapshot", "component")
    assert pca.projections[0].tokens_elapsed.to_numpy().tolist() == [0, 1000, 2000]
    assert pca.projections[0].attrs["unit"] == "nats"


def test_lists_of_snapshots_give_the_same_as_stacks():
    stacks, lists = ih.token_loss_pca([stacked(*ONE), stacked(*TWO)]), ih.token_loss_pca([ONE, TWO])
    for one, other in zip(stacks.projections, lists.projections, strict=True):
        np.testing.assert_array_equal(one, other)
    singles = ih.token_loss_pca(ONE)
    assert [projection.sizes["snapshot"] for projection in singles.projections] == [1, 1, 1]


def test_a_line_has_one_component():
    direction = np.outer(np.arange(7.0), np.ones(11))
    pca = ih.token_loss_pca([[losses_of(4 + time * direction) for time in (0.0, 1.0, 3.0)]])
    np.testing.assert_allclose(pca.explained_variance_ratio, [1.0, 0.0], atol=1e-12)
    steps = np.diff(pca.projections[0][:, 0])
    np.testing.assert_allclose(steps, np.linalg.norm(np.arange(7.0)) * np.array([1.0, 2.0]))


def test_further_losses_are_placed_in_the_same_space():
    pca = ih.token_loss_pca([stacked(*ONE), stacked(*TWO)])
    np.testing.assert_allclose(pca.project(ONE[1]), pca.projections[0][1], atol=1e-12)
    assert pca.project(random_ablations(0)).dims == ("layer", "head", "component")
    with pytest.raises(ih.FingerprintError, match="belong to the examples other"):
        pca.project(random_losses(0, fingerprint="other"))


def test_wrong_input():
    with pytest.raises(ih.InputError, match="at least 3 snapshots in all, got \\[2\\]"):
        ih.token_loss_pca([stacked(*TWO)])
    with pytest.raises(ih.InputError, match="at least 3 snapshots in all, got \\[\\]"):
        ih.token_loss_pca([])
    with pytest.raises(ih.InputError, match="without snapshots"):
        ih.token_loss_pca([ONE, []])
    with pytest.raises(ih.InputError, match="at most 3 components, got 4"):
        ih.token_loss_pca([ONE], n_components=4)
    with pytest.raises(ih.InputError, match="the same losses"):
        ih.token_loss_pca([[ONE[0], ONE[0], ONE[0]]])
    with pytest.raises(ih.InputError, match="NaN or infinity"):
        ih.token_loss_pca([[*TWO, losses_of(np.full((7, 11), np.nan))]])
    with pytest.raises(ih.InputError, match="models as they are"):
        ih.token_loss_pca([random_ablations(0)])
    with pytest.raises(ih.FingerprintError):
        ih.token_loss_pca([ONE, [random_losses(0, fingerprint="other")]])
