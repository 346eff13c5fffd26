"""What every kind of ablation with every replacement must keep to."""

from typing import Any

import numpy as np
import pytest
import torch

import ih_lens as ih
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation.replacements import REPLACEMENTS
from tests.helpers import random_tokens, tiny_model

EVERY = [pytest.param(kind, replace, id=f"{kind}-{replace}") for kind in ABLATIONS for replace in REPLACEMENTS]
every = pytest.mark.parametrize(("kind", "replace"), EVERY)


def _evals(model: Any, n_examples: int = 5, length: int = 10) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(random_tokens(model, n_examples, length))


def _same(first: ih.AblationLosses, second: ih.AblationLosses, tolerance: float) -> None:
    for name, view in first.dataset.items():
        np.testing.assert_allclose(second.dataset[name], view, atol=tolerance, rtol=0)


@every
@pytest.mark.parametrize("architecture", ["with_mlps", "smeared"])
def test_batches_change_nothing(kind: str, replace: str, architecture: str) -> None:
    model = tiny_model(architecture)
    evals = _evals(model)
    groups: list[Any] = ["L0H1", "L1H1", "L0H2", ["L0H3", "L1H0"], "L1H2"]
    whole = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=groups, batch_size=1000)
    for batch_size in (1, 2, 3, 7, 12):
        split = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=groups, batch_size=batch_size)
        _same(whole, split, 1e-12)


@every
def test_the_same_seed_gives_the_same_numbers(kind: str, replace: str) -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model)
    first = ih.ablate_heads(model, evals, kind=kind, replace=replace, seed=1)
    torch.rand(3)  # the global random state plays no part
    _same(first, ih.ablate_heads(model, evals, kind=kind, replace=replace, seed=1), 0)
    other = ih.ablate_heads(model, evals, kind=kind, replace=replace, seed=2)
    changed = float(abs(other.random_token - first.random_token).max()) > 1e-6
    assert changed == (replace == "resample")


@every
def test_single_precision_is_close_to_double(kind: str, replace: str) -> None:
    double, single = tiny_model("with_mlps"), tiny_model("with_mlps", dtype=torch.float32)
    single.load_state_dict(double.state_dict())
    found = ih.ablate_heads(single, _evals(single), kind=kind, replace=replace)
    assert found.random_token.dtype == np.float32
    _same(ih.ablate_heads(double, _evals(double), kind=kind, replace=replace), found, 1e-4)


@every
def test_the_model_and_global_state_are_left_as_they_were(kind: str, replace: str) -> None:
    model = tiny_model("rotary")
    model.train()
    model.blocks[1].attn.eval()
    seen: list[int] = []
    model.add_hook("blocks.0.hook_resid_pre", lambda value, hook: seen.append(len(value)))
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    ih.ablate_heads(model, _evals(model), kind=kind, replace=replace)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    hooks = [point.name for point in model.hook_points() for _ in point.fwd_hooks]
    assert hooks == ["blocks.0.hook_resid_pre"]
    assert seen


@every
def test_the_model_is_left_as_it_was_after_an_error_too(kind: str, replace: str) -> None:
    model = tiny_model("attention_only")

    def fail(value: torch.Tensor, hook: Any) -> None:
        raise RuntimeError("on purpose")

    with model.hooks([("blocks.1.attn.hook_z", fail)]), pytest.raises(RuntimeError, match="on purpose"):
        ih.ablate_heads(model, _evals(model), kind=kind, replace=replace)
    assert model.training
    assert torch.is_grad_enabled()
    assert not [point.name for point in model.hook_points() if point.fwd_hooks]


@every
def test_heads_that_were_not_asked_for_are_nan(kind: str, replace: str) -> None:
    model = tiny_model("with_mlps")
    found = ih.ablate_heads(model, _evals(model), kind=kind, replace=replace, heads=["L1H3"])
    for view in found.dataset.values():
        is_defined = np.isfinite(view.to_numpy()).reshape(2, 4, -1)
        assert is_defined[1, 3].all()
        assert is_defined.sum() == is_defined[1, 3].sum()


@every
def test_shapes(kind: str, replace: str) -> None:
    model = tiny_model("one_layer")
    found = ih.ablate_heads(model, _evals(model), kind=kind, replace=replace)
    assert found.random_token.dims == ("layer", "head", "example")
    assert found.random_token.shape == (1, 4, 5)
    assert found.by_context_index.shape == (1, 4, 9)
    assert found.at_indices.shape == (1, 4, 5, 2)
    assert (found.attrs["kind"], found.attrs["replace"]) == (kind, replace)


@every
def test_unusable_input_is_refused(kind: str, replace: str) -> None:
    model = tiny_model("one_layer")
    how = {"kind": kind, "replace": replace}
    with pytest.raises(ih.InputError, match="id 40 lies outside the vocabulary of 40"):
        ih.ablate_heads(model, ih.EvalSet.from_tokens(torch.tensor([[1, 40, 2], [1, 2, 3]])), **how)
    with pytest.raises(ih.InputError, match="65 tokens do not fit the model's context of 64"):
        ih.ablate_heads(model, ih.EvalSet.from_tokens(torch.zeros(2, 65, dtype=torch.long)), **how)
    model.embed.W_E.data[3, 3] = torch.inf
    with pytest.raises(ih.InputError, match=r"embed\.W_E hold NaN or infinity"):
        ih.ablate_heads(model, _evals(model), **how)
