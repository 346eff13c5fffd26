"""Ablations against slow obvious twins and against what must hold for any correct one."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

import ih_lens as ih
from ih_lens.measure.ablation.replacements import other_examples
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.measure.test_token_losses import OnlyWhole

KINDS = ["pattern_preserving", "full"]
Heads = Sequence[tuple[int, int]]


def _evals(model: Any, n_examples: int = 3, length: int = 10, seed: int = 0) -> ih.EvalSet:
    return ih.EvalSet.from_tokens(random_tokens(model, n_examples, length), seed=seed)


def _per_token(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return -logits[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]


@torch.no_grad()
def _twin(model: Any, tokens: torch.Tensor, heads: Heads, kind: str, z: dict[int, torch.Tensor] | None = None) -> Any:
    """All losses after one ablation, as the paper describes it: record the patterns, then run again and force them."""
    _, cache = model.run_with_cache(tokens)

    def replace(layer: int, head: int) -> Callable[..., torch.Tensor]:
        def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value[:, :, head] = 0 if z is None else z[layer][:, :, head]
            return value

        return hook

    def freeze(layer: int) -> Callable[..., torch.Tensor]:
        return lambda pattern, hook: cache["pattern", layer]

    hooks = [(f"blocks.{layer}.attn.hook_z", replace(layer, head)) for layer, head in heads]
    if kind == "pattern_preserving":
        hooks += [(f"blocks.{layer}.attn.hook_pattern", freeze(layer)) for layer in range(model.cfg.n_layers)]
    return _per_token(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens).numpy()


def _clean_z(model: Any, tokens: torch.Tensor) -> dict[int, torch.Tensor]:
    _, cache = model.run_with_cache(tokens)
    return {layer: cache["z", layer].detach() for layer in range(model.cfg.n_layers)}


def _of_others(model: Any, evals: ih.EvalSet, seed: int = 0) -> dict[int, torch.Tensor]:
    others = other_examples(evals.n_examples, seed)
    return {layer: z[others] for layer, z in _clean_z(model, evals.tokens).items()}


def _all_heads(model: Any) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]


def _check_every_head(model: Any, evals: ih.EvalSet, ablated: ih.AblationLosses, z: Any = None) -> None:
    """All three views of every head against the twin; the ablations must differ from the unablated model too."""
    clean = _per_token(model(evals.tokens).detach(), evals.tokens).numpy()
    examples = np.arange(evals.n_examples)
    for layer, head in _all_heads(model):
        expected = _twin(model, evals.tokens, [(layer, head)], ablated.attrs["kind"], z)
        assert abs(expected - clean).max() > 1e-4
        found = ablated.dataset.sel(layer=layer, head=head)
        np.testing.assert_allclose(found["by_context_index"], expected.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(found["random_token"], expected[examples, evals.random_index - 1], atol=1e-9)
        at = found["at_index"].to_numpy() - 1
        np.testing.assert_allclose(found["at_indices"], expected[:, at], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ZOO)
def test_every_head_of_every_architecture(architecture: str, kind: str) -> None:
    model = tiny_model(architecture)
    evals = _evals(model)
    _check_every_head(model, evals, ih.ablate_heads(model, evals, kind=kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["three_layers", "rms_grouped", "smeared"])
def test_mean_is_the_mean_over_examples_and_positions(architecture: str, kind: str) -> None:
    model = tiny_model(architecture)
    evals = _evals(model, n_examples=4)
    means = {layer: z.mean(dim=(0, 1), keepdim=True) for layer, z in _clean_z(model, evals.tokens).items()}
    _check_every_head(model, evals, ih.ablate_heads(model, evals, kind=kind, replace="mean"), means)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["three_layers", "rms_grouped", "smeared"])
def test_resample_takes_the_same_position_of_another_example(architecture: str, kind: str) -> None:
    model = tiny_model(architecture)
    evals = _evals(model, n_examples=4)
    ablated = ih.ablate_heads(model, evals, kind=kind, replace="resample", seed=3)
    _check_every_head(model, evals, ablated, _of_others(model, evals, seed=3))


@pytest.mark.parametrize("n_examples", [2, 3, 10])
def test_every_example_gets_another_one_and_each_is_used_once(n_examples: int) -> None:
    draws = [other_examples(n_examples, seed) for seed in range(20)]
    for others in draws:
        assert sorted(others.tolist()) == list(range(n_examples))
        assert not (others == torch.arange(n_examples)).any()
    assert n_examples == 2 or len({tuple(others.tolist()) for others in draws}) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replace", ["zero", "mean", "resample"])
def test_groups_are_ablated_together(kind: str, replace: str) -> None:
    model = tiny_model("three_layers")
    evals = _evals(model)
    clean = _clean_z(model, evals.tokens)
    z = {
        "zero": None,
        "mean": {layer: values.mean(dim=(0, 1), keepdim=True) for layer, values in clean.items()},
        "resample": _of_others(model, evals),
    }[replace]
    groups: list[Any] = [["L1H0", "L2H3"], "L0H1", [(0, 0), (0, 1), (2, 2)], ["L1H0"]]
    ablated = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=groups)
    assert ablated.random_token.dims == ("group", "example")
    assert ablated.random_token.group.values.tolist() == ["L1H0+L2H3", "L0H1", "L0H0+L0H1+L2H2", "L1H0"]
    members = [[(1, 0), (2, 3)], [(0, 1)], [(0, 0), (0, 1), (2, 2)], [(1, 0)]]
    for group, heads in enumerate(members):
        expected = _twin(model, evals.tokens, heads, kind, z).mean(axis=0)
        np.testing.assert_allclose(ablated.by_context_index[group], expected, atol=1e-9)


def test_heads_that_were_not_asked_for_are_nan() -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model)
    every = ih.ablate_heads(model, evals).dataset
    some = ih.ablate_heads(model, evals, heads=["L1H3", "0.2", (1, 0)]).dataset
    asked = np.zeros((2, 4), dtype=bool)
    asked[[1, 0, 1], [3, 2, 0]] = True
    for name, view in some.items():
        np.testing.assert_allclose(view.to_numpy()[asked], every[name].to_numpy()[asked], atol=1e-12)
        assert np.isnan(view.to_numpy()[~asked]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_listed_context_indices_are_those_of_all_in_the_order_given(kind: str) -> None:
    model = tiny_model("rotary")
    evals = _evals(model)
    every = ih.ablate_heads(model, evals, kind=kind)
    some = ih.ablate_heads(model, evals, kind=kind, context_indices=(7, 2, 5))
    assert some.by_context_index.context_index.values.tolist() == [7, 2, 5]
    expected = every.by_context_index.sel(context_index=[7, 2, 5])
    np.testing.assert_allclose(some.by_context_index, expected, atol=1e-12)
    np.testing.assert_allclose(some.random_token, every.random_token, atol=1e-12)
    assert some.at_indices.at_index.values.tolist() == [7, 2, 5]
    np.testing.assert_allclose(some.at_indices.mean("example"), expected, atol=1e-12)


def test_at_indices_and_their_window_beside_listed_context_indices() -> None:
    model = tiny_model("attention_only")
    evals = _evals(model)
    found = ih.ablate_heads(model, evals, context_indices=(8, 3), at_indices=(4,), window=1)
    expected = np.stack([_twin(model, evals.tokens, [(0, head)], "pattern_preserving") for head in range(4)])
    np.testing.assert_allclose(found.at_indices[0, ..., 0], expected[..., 2:5].mean(axis=-1), atol=1e-9)
    np.testing.assert_allclose(found.by_context_index[0], expected[..., [7, 2]].mean(axis=1), atol=1e-9)


def test_only_the_random_token_if_no_context_index_is_listed() -> None:
    model = tiny_model("attention_only")
    evals = _evals(model)
    found = ih.ablate_heads(model, evals, context_indices=())
    assert found.by_context_index.shape == (2, 4, 0)
    np.testing.assert_allclose(found.random_token, ih.ablate_heads(model, evals).random_token, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replace", ["zero", "mean", "resample"])
def test_ablating_a_head_that_is_already_silent_changes_nothing(kind: str, replace: str) -> None:
    model = tiny_model("with_mlps")
    for layer, head in ((0, 1), (1, 2)):
        model.blocks[layer].attn.W_V.data[head] = 0
        model.blocks[layer].attn.b_V.data[head] = 0
    evals = _evals(model)
    clean = ih.token_losses(model, evals)
    ablated = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=[("L0H1", "L1H2"), "L1H1"])
    np.testing.assert_allclose(ablated.by_context_index[0], clean.by_context_index, atol=1e-12)
    np.testing.assert_allclose(ablated.random_token[0], clean.random_token, atol=1e-12)
    assert abs(ablated.random_token[1] - clean.random_token).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_resample_leave_a_head_that_always_says_the_same(kind: str) -> None:
    model = tiny_model("with_mlps")
    model.blocks[0].attn.W_V.data[1] = 0  # only its value bias is left
    evals = _evals(model)
    clean = ih.token_losses(model, evals).random_token
    for replace, changes in (("mean", False), ("resample", False), ("zero", True)):
        ablated = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=["L0H1"]).random_token[0, 1]
        assert (float(abs(ablated - clean).max()) > 1e-6) == changes


def test_resampling_among_equal_examples_changes_nothing() -> None:
    model = tiny_model("with_mlps")
    evals = ih.EvalSet.from_tokens(random_tokens(model, 1, 10).repeat(4, 1))
    clean = ih.token_losses(model, evals).by_context_index
    ablated = ih.ablate_heads(model, evals, replace="resample").by_context_index
    np.testing.assert_allclose(ablated, clean.broadcast_like(ablated), atol=1e-12)


@torch.no_grad()
def _without_terms_of(model: Any, tokens: torch.Tensor, layer: int, head: int) -> torch.Tensor:
    """Losses after subtracting from the logits the head's direct term and its terms through all later heads."""
    logits, cache = model.run_with_cache(tokens)
    terms = cache["z", layer][:, :, head] @ model.W_O[layer, head]
    for later in range(layer + 1, model.cfg.n_layers):
        moved = torch.einsum("bhqk,bkd->bhqd", cache["pattern", later], terms)
        terms = terms + torch.einsum("bhqd,hde,hef->bqf", moved, model.W_V[later], model.W_O[later])
    return _per_token(logits - terms @ model.W_U, tokens)


def test_without_norms_and_mlps_it_equals_subtracting_all_terms_with_the_head() -> None:
    model = tiny_model("no_norm", n_layers=3)  # footnote 30 of the paper
    evals = _evals(model)
    preserved = ih.ablate_heads(model, evals).by_context_index
    full = ih.ablate_heads(model, evals, kind="full").by_context_index
    for layer, head in _all_heads(model):
        expected = _without_terms_of(model, evals.tokens, layer, head).mean(dim=0)
        np.testing.assert_allclose(preserved[layer, head], expected, atol=1e-10)
        assert layer == 2 or abs(full[layer, head] - expected.numpy()).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_layers_before_the_head_run_once_per_example(kind: str) -> None:
    model = tiny_model("three_layers")
    evals = _evals(model, n_examples=5)
    rows = dict.fromkeys(range(3), 0)

    def count(layer: int) -> Callable[..., None]:
        def hook(value: torch.Tensor, hook: Any) -> None:
            rows[layer] += len(value)

        return hook

    with model.hooks([(f"blocks.{layer}.hook_resid_pre", count(layer)) for layer in range(3)]):
        ih.ablate_heads(model, evals, kind=kind, heads=[(2, 0), (2, 1), (2, 3)], batch_size=4)
    probes = 1 if kind == "pattern_preserving" else 0  # of whether patterns can be replaced
    assert rows == {0: 5 + probes, 1: 5 + probes, 2: 3 * 5 + probes}


def test_the_unembedding_runs_only_where_losses_are_asked_for() -> None:
    model = tiny_model("with_mlps")
    evals = _evals(model, n_examples=5)
    rows: list[int] = []
    with model.hooks([("ln_final.hook_normalized", lambda value, hook: rows.append(value.shape[1]))]):
        ih.ablate_heads(model, evals, kind="full", context_indices=(3, 8))
    assert sum(rows) == 8 * 5 * 3  # heads, examples, two listed indices and the random one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replace", ["zero", "mean", "resample"])
def test_a_model_that_runs_only_whole_gives_the_same(kind: str, replace: str) -> None:
    model = tiny_model("rotary")
    evals = _evals(model)
    heads: list[Any] = ["L1H2", ["L0H0", "L1H1"]]
    whole = ih.ablate_heads(OnlyWhole(model), evals, kind=kind, replace=replace, heads=heads)
    direct = ih.ablate_heads(model, evals, kind=kind, replace=replace, heads=heads)
    np.testing.assert_allclose(whole.by_context_index, direct.by_context_index, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_copy_attends_for_all_that_attend_alike(kind: str) -> None:
    model = tiny_model("three_layers")
    evals = _evals(model, n_examples=5)
    rows: list[int] = []
    with model.hooks([("blocks.2.attn.hook_pattern", lambda value, hook: rows.append(len(value)))]):
        ih.ablate_heads(model, evals, kind=kind, heads=[(1, 0), (1, 1)], batch_size=100)
    assert rows[-1] == (5 if kind == "pattern_preserving" else 2 * 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replace", ["zero", "resample"])
def test_the_user_s_hooks_take_effect(kind: str, replace: str) -> None:
    model = tiny_model("three_layers")
    evals = _evals(model)
    model.add_hook("blocks.1.attn.hook_z", lambda z, hook: z * torch.arange(4)[:, None])  # heads keep their axis
    model.add_hook("blocks.2.attn.hook_z", lambda z, hook: z * torch.arange(4))  # as does the head's width
    model.add_hook("blocks.2.attn.hook_pattern", lambda pattern, hook: pattern.square())
    z = None if replace == "zero" else _of_others(model, evals)
    found = ih.ablate_heads(model, evals, kind=kind, replace=replace).by_context_index
    for layer, head in _all_heads(model):
        expected = _twin(model, evals.tokens, [(layer, head)], kind, z)
        np.testing.assert_allclose(found[layer, head], expected.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_left_is_masked_as_the_model_masks_it(kind: str) -> None:
    model = tiny_model("attention_only")

    class Tokenizer:
        padding_side, pad_token_id, bos_token_id = "left", 0, 1

    model.tokenizer = Tokenizer()
    tokens = random_tokens(model, 3, 10).clamp(min=2)
    tokens[0, :4] = 0
    evals = ih.EvalSet.from_tokens(tokens)
    _check_every_head(model, evals, ih.ablate_heads(model, evals, kind=kind))


def _bridge() -> Any:
    sizes = {"d_model": 16, "d_head": 4, "n_heads": 4, "n_layers": 2, "n_ctx": 32, "d_vocab": 40, "d_mlp": 32}
    cfg = TransformerBridgeConfig(**sizes, act_fn="gelu", normalization_type="LN", initializer_range=0.4)
    with torch.random.fork_rng():
        return TransformerBridge.boot_native(cfg)


def test_a_bridge_that_discards_pattern_edits_is_refused_but_can_be_fully_ablated() -> None:
    model = _bridge()
    evals = _evals(model)
    with pytest.raises(ih.CapabilityError, match=r"ignores edits of its attention pattern .* use kind="):
        ih.ablate_heads(model, evals)
    found = ih.ablate_heads(model, evals, kind="full", heads=["L0H1"]).by_context_index[0, 1]
    np.testing.assert_allclose(found, _twin(model, evals.tokens, [(0, 1)], "full").mean(axis=0), atol=1e-4)


def test_provenance() -> None:
    model = tiny_model("attention_only")
    evals = _evals(model, seed=2)
    attrs = ih.ablate_heads(model, evals, replace="resample", seed=5, window=1).attrs
    expected = {"kind": "pattern_preserving", "replace": "resample", "seed": 5, "window": 1, "index_base": 0}
    assert {name: attrs[name] for name in expected} == expected
    assert attrs["fingerprint"] == evals.fingerprint == ih.token_losses(model, evals).fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "frozen"}, "kind: expected one of pattern_preserving, full; got 'frozen'"),
        ({"replace": "noise"}, "replace: expected one of zero, mean, resample; got 'noise'"),
        ({"heads": ["L2H0"]}, "head L2H0 does not exist"),
        ({"heads": []}, "expected at least one head or group"),
        ({"heads": [["L0H1", "L0H1"]]}, "none twice"),
        ({"heads": ["second"]}, "expected a head as 'L1H4'"),
        ({"heads": "L0H1"}, "write ['L0H1']"),
        ({"context_indices": "some"}, 'context_indices: expected "all" or a sequence'),
        ({"context_indices": (50, 500)}, "context index 50: expected 1..9 for examples of 10 tokens"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match=re.escape(message)):
        ih.ablate_heads(model, _evals(model), **arguments)


def test_a_single_example_cannot_be_resampled() -> None:
    model = tiny_model("attention_only")
    with pytest.raises(ih.InputError, match="this evaluation set has only one"):
        ih.ablate_heads(model, _evals(model, n_examples=1), replace="resample")


def test_rotary_models_are_measured_beyond_the_length_of_transformerlens_first_tables():
    model = ih.build_model(ih.attention_only(1, d_model=8, n_heads=1, d_vocab=11, n_ctx=2100, positions="rotary"))
    evals = ih.EvalSet.from_tokens(torch.randint(0, 11, (1, 2090), generator=torch.Generator().manual_seed(0)))
    losses = ih.token_losses(model, evals, at_indices=(50, 2089))
    with torch.no_grad():
        expected = model(evals.tokens, return_type="loss", loss_per_token=True)[0, [49, 2088]]
    torch.testing.assert_close(torch.tensor(losses.at_indices.to_numpy()[0]), expected, rtol=0, atol=1e-4)
    assert ih.ablate_heads(model, evals, context_indices=(50, 2089)).at_indices.shape == (1, 1, 1, 2)
