import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import ih_lens as ih
from ih_lens.head_spread import HeadSpread
from ih_lens.results import stack_snapshots

METHODS = ("bootstrap", "bca", "percentile", "t")


def _examples(n_examples: int = 9, seed: int = 0) -> xr.DataArray:
    values = np.random.default_rng(seed).normal(1, 0.5, (2, 3, n_examples))
    values[1, 2] = np.nan
    labels = {"layer": range(2), "head": range(3)}
    return xr.DataArray(values, labels, ("layer", "head", "example"), attrs={"unit": "nats"})


def _scores(n_examples: int = 9, *, keep_examples: bool = True) -> ih.HeadScores:
    values = torch.as_tensor(_examples(n_examples).transpose("example", ...).to_numpy())
    spread = HeadSpread.from_tensors({"copying": values, "trace": "no examples"}, 2, 3, keep_examples=keep_examples)
    attributes = {"copying": {"range": (-1.0, 1.0)}, "trace": {}}
    scores = {"copying": values.mean(dim=0), "trace": values[0]}
    return ih.HeadScores.from_tensors(scores, attributes=attributes, spread=spread)


def test_an_estimate_is_the_mean_of_its_examples() -> None:
    estimate = ih.Estimate.from_examples(_examples())
    assert (estimate.value.dims, estimate.n_examples) == (("layer", "head"), 9)
    for layer, head in np.ndindex(2, 3):
        values = _examples().to_numpy()[layer, head]
        np.testing.assert_allclose(estimate.value[layer, head], values.mean())
        np.testing.assert_allclose(estimate.stderr[layer, head], values.std(ddof=1) / 3)
    assert estimate.value.attrs == {"unit": "nats"}


def test_examples_without_any_score_are_left_out() -> None:
    examples = _examples()
    examples[:, :, 4] = np.nan
    estimate = ih.Estimate.from_examples(examples)
    assert estimate.n_examples == 8
    np.testing.assert_allclose(estimate.value, examples.mean("example"))  # xarray leaves them out as well
    with pytest.raises(ih.InputError, match="expected a dimension 'example'"):
        ih.Estimate.from_examples(examples.isel(example=0))


@pytest.mark.parametrize("method", METHODS)
def test_intervals_are_labelled_and_undefined_where_the_score_is(method: str) -> None:
    estimate = ih.Estimate.from_examples(_examples())
    interval = estimate.confidence_interval(0.9, method=method)
    assert interval.dims == ("layer", "head", "bound")
    low, high = interval.sel(bound="low"), interval.sel(bound="high")
    is_defined = estimate.value.notnull()
    assert ((low < estimate.value) & (estimate.value < high)).where(is_defined, True).all()
    assert interval[1, 2].isnull().all()
    assert (interval.attrs["level"], interval.attrs["method"], interval.attrs["unit"]) == (0.9, method, "nats")
    wider = estimate.confidence_interval(0.99, method=method)
    assert (wider.sel(bound="high") > high).where(is_defined, True).all()


@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_p_values_against_numbers(method: str) -> None:
    estimate = ih.Estimate.from_examples(_examples())
    found = estimate.p_value(0.0, method=method)
    assert found.dims == ("layer", "head")
    assert found[1, 2].isnull()
    assert (found.isel(head=[0, 1]) < 0.02).all()
    at_mean = estimate.p_value(float(estimate.value[0, 0]), method=method)
    assert at_mean[0, 0] > 0.9
    assert (estimate.p_value(5.0, method=method, alternative="greater").isel(layer=0) > 0.99).all()


def test_a_single_estimate_has_everything_too() -> None:
    one = ih.Estimate.from_examples(_examples()[0, 0])
    assert one.value.ndim == one.stderr.ndim == 0
    for method in METHODS:
        assert one.confidence_interval(method=method).dims == ("bound",)
    assert 0 < float(one.p_value(0.9)) < 1
    assert 0 < float(one.p_value(0.9, method="sign_flip")) < 1
    null = xr.DataArray(np.arange(19.0), dims="draw")
    assert float(one.p_value(null, alternative="less")) == (1 + int(float(one.value) >= 0) + 1) / 20


@pytest.mark.parametrize("method", METHODS)
def test_one_example_has_no_spread_and_says_so(method: str) -> None:
    estimate = ih.Estimate.from_examples(_examples(1))
    assert estimate.stderr.isnull().all()
    assert estimate.undefined == "a single example has no spread; measure more of them"
    interval = estimate.confidence_interval(method=method)
    assert interval.isnull().all()
    assert interval.attrs["undefined"] == estimate.undefined == estimate.p_value(0.0).attrs["undefined"]
    np.testing.assert_array_equal(estimate.value, _examples(1)[..., 0])
    assert _scores(1).estimate("copying").undefined == estimate.undefined


def test_draws_are_compared_along_the_dimensions_that_they_have() -> None:
    estimate = ih.Estimate.from_examples(_examples())
    per_head = xr.DataArray(np.random.default_rng(1).normal(1, 0.2, (30, 2, 3)), dims=("draw", "layer", "head"))
    for null in (per_head, per_head.transpose("head", "draw", "layer"), per_head[:, :, 0], per_head[:, 0, 0]):
        found = estimate.p_value(null, alternative="greater")
        assert found.dims == ("layer", "head")
        for layer, head in [(0, 0), (0, 2), (1, 1)]:
            place = {dim: index for dim, index in (("layer", layer), ("head", head)) if dim in null.dims}
            n_greater = int((null.isel(place) >= estimate.value[layer, head]).sum())
            assert float(found[layer, head]) == (1 + n_greater) / 31
        assert found[1, 2].isnull()
    with pytest.raises(ih.InputError, match=r"null: expected a dimension 'draw'.*got \['layer'\]"):
        estimate.p_value(per_head[0, :, 0])
    with pytest.raises(ih.InputError, match="draw it from a model of the same architecture"):
        estimate.p_value(per_head.isel(layer=[0]))


def test_nulls_are_pooled_as_asked() -> None:
    values = np.arange(24.0).reshape(4, 2, 3)
    null = ih.NullScores(xr.Dataset({"copying": (("draw", "layer", "head"), values)}))
    assert (null.n_draws, null.names) == (4, ["copying"])
    assert null.pooled("copying", "head").shape == (4, 2, 3)
    for layer in range(2):
        assert set(null.pooled("copying").sel(layer=layer).to_numpy()) == set(values[:, layer].ravel())
    assert sorted(null.pooled("copying", "model").to_numpy()) == list(range(24))
    own = ih.NullScores(null.dataset.assign_attrs(kind="shuffled_tokens"))  # whose heads are not alike
    np.testing.assert_array_equal(own.pooled("copying"), values)
    with pytest.raises(ih.InputError, match="pool: expected one of layer, model, head"):
        null.pooled("copying", "all")
    with pytest.raises(ih.InputError, match="no measure 'trace' in this null"):
        null["trace"]


def test_scores_carry_their_spread() -> None:
    scores, expected = _scores(), ih.Estimate.from_examples(_examples())
    np.testing.assert_allclose(scores.stderr("copying"), expected.stderr)
    for method in METHODS:
        np.testing.assert_allclose(
            scores.confidence_interval("copying", 0.8, method=method, seed=2),
            expected.confidence_interval(0.8, method=method, seed=2),
        )
    np.testing.assert_allclose(scores.p_value("copying", null=0.5), expected.p_value(0.5))
    null = ih.NullScores(xr.Dataset({"copying": (("draw", "layer", "head"), np.ones((19, 2, 3)))}))
    by_draws = scores.p_value("copying", null=null, pool="head", alternative="greater")
    np.testing.assert_array_equal(by_draws, xr.where(scores["copying"] > 1, 1 / 20, 1.0).where(by_draws.notnull()))
    assert (by_draws.attrs["pool"], by_draws.attrs["n_draws"]) == ("head", 19)
    doubled = scores.p_value("copying", null)  # a measure with a sign: both sides
    assert float(doubled.max()) == pytest.approx(2 / 58)


def test_measures_of_weights_have_no_spread_and_say_why() -> None:
    scores = _scores()
    for found in (scores.stderr("trace"), scores.confidence_interval("trace"), scores.p_value("trace", 0.0)):
        assert found.isnull().all()
        assert found.attrs["undefined"] == "no examples"


def test_without_single_examples_there_are_standard_errors_and_t_intervals() -> None:
    scores, whole = _scores(keep_examples=False), _scores()
    np.testing.assert_array_equal(scores.stderr("copying"), whole.stderr("copying"))
    np.testing.assert_array_equal(
        scores.confidence_interval("copying", method="t"), whole.confidence_interval("copying", method="t")
    )
    with pytest.raises(ih.InputError, match=r"method='bootstrap' needs what each example gave.*keep_examples=True"):
        scores.confidence_interval("copying")
    with pytest.raises(ih.InputError, match="method='sign_flip' needs"):
        scores.p_value("copying", 0.0, method="sign_flip")


@pytest.mark.parametrize("keep_examples", [True, False])
def test_the_spread_is_saved_with_the_scores(tmp_path: Path, keep_examples: bool) -> None:
    scores = _scores(keep_examples=keep_examples)
    stacked = stack_snapshots([scores, scores], [0, 50], [0, 5000])
    for kept in (scores, stacked):
        loaded = ih.HeadScores.load(kept.save(tmp_path / "scores.json"))
        assert kept.spread is not None
        assert loaded.spread is not None
        xr.testing.assert_identical(loaded.dataset, kept.dataset)
        xr.testing.assert_identical(loaded.spread.stderr, kept.spread.stderr)
        xr.testing.assert_identical(loaded.spread.examples, kept.spread.examples)
        np.testing.assert_array_equal(loaded.stderr("copying"), kept.stderr("copying"))


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    path = _scores().save(tmp_path / "scores.json")
    written = json.loads(path.read_text(encoding="utf8"))
    assert (written.pop("version"), sorted(written.pop("spread"))) == (2, ["examples", "stderr"])
    path.write_text(json.dumps({**written, "version": 1}), encoding="utf8")
    loaded = ih.HeadScores.load(path)
    xr.testing.assert_identical(loaded.dataset, _scores().dataset)
    with pytest.raises(ih.InputError, match="kept without their spread; measure with score_heads again"):
        loaded.stderr("copying")
    path.write_text(json.dumps({**written, "version": 3}), encoding="utf8")
    with pytest.raises(ih.DamagedFileError, match="another format or version"):
        ih.HeadScores.load(path)


def test_stacked_scores_keep_their_spread() -> None:
    one, other = _scores(9), _scores(12)
    alike = stack_snapshots([one, one], [0, 50], [0, 5000])
    assert alike.stderr("copying").dims == ("snapshot", "layer", "head")
    for method in METHODS:
        interval = alike.confidence_interval("copying", method=method)
        np.testing.assert_allclose(interval.isel(snapshot=1), one.confidence_interval("copying", method=method))
    null = ih.NullScores(
        xr.Dataset({"copying": (("draw", "layer", "head"), np.random.default_rng(2).normal(1, 1, (9, 2, 3)))})
    )
    found = alike.p_value("copying", null)
    np.testing.assert_array_equal(found.isel(snapshot=1), one.p_value("copying", null))
    different = stack_snapshots([one, other], [0, 50], [0, 5000])
    np.testing.assert_allclose(different.stderr("copying").isel(snapshot=1), other.stderr("copying"))
    without = ih.HeadScores(one.dataset)
    assert stack_snapshots([one, without], [0, 50], [0, 5000]).spread is None


def test_wrong_settings_are_explained() -> None:
    estimate = ih.Estimate.from_examples(_examples())
    for message, call in [
        ("level: expected a number between 0 and 1, such as 0.95; got 95", lambda: estimate.confidence_interval(95.0)),
        ("method: expected one of t, bootstrap", lambda: estimate.confidence_interval(method="normal")),
        ("method: expected one of t, sign_flip", lambda: estimate.p_value(method="bootstrap")),
        ("alternative: expected one of two-sided", lambda: estimate.p_value(alternative="larger")),
        ("n_resamples: expected an integer of at least 100", lambda: estimate.confidence_interval(n_resamples=5)),
    ]:
        with pytest.raises(ih.InputError, match=message):
            call()
