"""Ablations of models drawn over all architectures against a twin that runs one example and one ablation at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given

import ih_lens as ih
from tests.drawn_models import POSITIONS, drawn_models, drawn_tokens, draws
from tests.models.bridges import tiny_bridge

Array = npt.NDArray[np.float64]
Members = Sequence[tuple[int, int]]
POSITION_KINDS = pytest.mark.parametrize("positions", POSITIONS)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True)
class Call:
    """One drawn call of `ablate_heads`; `members` are the heads of each entry of `heads`."""

    model: Any
    tokens: torch.Tensor
    eval_seed: int
    members: list[list[tuple[int, int]]]
    arguments: dict[str, Any]

    @property
    def evals(self) -> ih.EvalSet:
        return ih.EvalSet.from_tokens(self.tokens, seed=self.eval_seed)


@st.composite
def calls(
    draw: st.DrawFn,
    *,
    replace: str = "zero",
    length: tuple[int, int] = (2, 14),
    few_indices: bool = False,
    **of_model: Any,
) -> Call:
    model = draw(drawn_models(**of_model))
    n_examples = (2, 3) if replace == "resample" else (1, 4)
    tokens = draw(drawn_tokens(model, n_examples=n_examples, min_length=length[0], longest=length[1]))
    heads, members = draw(_heads(model.sizes["n_layers"], model.sizes["n_heads"]))
    arguments = {
        "kind": draw(st.sampled_from(["pattern_preserving", "full"])),
        "replace": replace,
        "heads": heads,
        "batch_size": draw(st.none() | st.integers(1, 9)),
        **draw(_few_indices(tokens.shape[1]) if few_indices else _indices(tokens.shape[1])),
    }
    return Call(model, tokens, draw(st.integers(0, 100)), members, arguments)


@st.composite
def _heads(draw: st.DrawFn, n_layers: int, n_heads: int) -> tuple[Any, list[list[tuple[int, int]]]]:
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    form = draw(st.sampled_from(["default", "single", "groups"]))
    if form == "default":
        return None, [[head] for head in every]
    largest = 1 if form == "single" else 3
    group = st.lists(st.sampled_from(every), min_size=1, max_size=largest, unique=True)
    members = draw(st.lists(group, min_size=1, max_size=5, unique_by=lambda heads: tuple(sorted(heads))))
    if form == "groups":
        return [[f"L{layer}H{head}" for layer, head in heads] for heads in members], members
    return [heads[0] for heads in members], members


@st.composite
def _indices(draw: st.DrawFn, n_pos: int) -> dict[str, Any]:
    some = st.lists(st.integers(1, n_pos - 1), max_size=4, unique=True)
    arguments: dict[str, Any] = {"context_indices": draw(st.just("all") | some)}
    if draw(st.booleans()):
        arguments |= {"at_indices": draw(some), "window": draw(st.integers(0, 3))}
    return arguments


@st.composite
def _few_indices(draw: st.DrawFn, n_pos: int) -> dict[str, Any]:
    return {"context_indices": draw(st.lists(st.integers(1, n_pos - 1), max_size=3, unique=True))}


@torch.no_grad()
def losses_without(
    model: Any, tokens: torch.Tensor, members: Members, kind: str, instead: dict[int, torch.Tensor]
) -> Array:
    """Losses [n_pos - 1] of one example after one ablation; `instead` is each layer's z [pos, head, d_head] to put."""
    example = tokens[None]
    cache = model.run_with_cache(example)[1]

    def put(layer: int) -> Callable[..., torch.Tensor]:
        def hook(z: torch.Tensor, hook: Any) -> torch.Tensor:
            changed = z.clone()
            for of_layer, head in members:
                if of_layer == layer:
                    changed[0, :, head] = instead[layer][:, head]
            return changed

        return hook

    def keep(layer: int) -> Callable[..., torch.Tensor]:
        def hook(pattern: torch.Tensor, hook: Any) -> torch.Tensor:
            return cache[f"blocks.{layer}.attn.hook_pattern"]

        return hook

    layers = range(model.cfg.n_layers)
    hooks = [(f"blocks.{layer}.attn.hook_z", put(layer)) for layer in layers]
    if kind == "pattern_preserving":
        hooks += [(f"blocks.{layer}.attn.hook_pattern", keep(layer)) for layer in layers]
    logits = model.run_with_hooks(example, fwd_hooks=hooks, return_type="logits")[0]
    return np.array([-float(logits[i].log_softmax(-1)[tokens[i + 1]]) for i in range(len(tokens) - 1)])


@torch.no_grad()
def clean_z(model: Any, tokens: torch.Tensor) -> list[dict[int, torch.Tensor]]:
    """Per example and layer every head's z [pos, head, d_head] in the model as it is."""
    caches = [model.run_with_cache(example[None])[1] for example in tokens]
    layers = range(model.cfg.n_layers)
    return [{layer: cache[f"blocks.{layer}.attn.hook_z"][0] for layer in layers} for cache in caches]


def replacements(model: Any, tokens: torch.Tensor, replace: str) -> list[list[dict[int, torch.Tensor]]]:
    """What may stand in each example's place, per way of choosing other examples: for "resample" there are several."""
    z = clean_z(model, tokens)
    if replace == "zero":
        return [[{layer: torch.zeros_like(values) for layer, values in own.items()} for own in z]]
    if replace == "mean":
        means = {layer: torch.cat([own[layer] for own in z]).mean(dim=0) for layer in z[0]}
        return [[{layer: means[layer].expand_as(values) for layer, values in own.items()} for own in z]]
    places = range(len(z))
    return [[z[other] for other in others] for others in permutations(places) if all(map(int.__ne__, others, places))]


def expected_views(losses: Array, evals: ih.EvalSet, found: ih.AblationLosses, window: int) -> dict[str, Array]:
    """The three views of losses [group, example, n_pos - 1], entry c being context index c + 1."""
    examples, last = range(evals.n_examples), evals.n_pos - 1
    random = [losses[:, example, int(evals.random_index[example]) - 1] for example in examples]
    at = found.dataset["at_index"].to_numpy().tolist()
    means = [losses[..., max(1, i - window) - 1 : min(last, i + window)].mean(-1) for i in at]
    asked = found.dataset["context_index"].to_numpy().tolist()
    none = np.zeros((*losses.shape[:2], 0))
    return {
        "random_token": np.stack(random, axis=-1),
        "by_context_index": losses.mean(axis=1)[:, [i - 1 for i in asked]],
        "at_indices": np.stack(means, axis=-1) if means else none,
    }


def largest_difference(model: Any, call: Call, found: ih.AblationLosses) -> float:
    """Over all views and entries, against the choice of other examples that fits best."""
    kind, window = call.arguments["kind"], call.arguments.get("window", 0)
    differences: list[float] = []
    for instead in replacements(model, call.tokens, call.arguments["replace"]):
        rows = [
            [losses_without(model, *one, kind, own) for one, own in zip(pairs, instead, strict=True)]
            for pairs in ([(example, heads) for example in call.tokens] for heads in call.members)
        ]
        expected = expected_views(np.array(rows), call.evals, found, window)
        differences.append(max(_difference(found.dataset[name], view, call) for name, view in expected.items()))
    return min(differences)


def _difference(found: Any, expected: Array, call: Call) -> float:
    values = found.to_numpy().astype(np.float64)
    if "group" in found.dims:
        assert found["group"].values.tolist() == ["+".join(f"L{i}H{j}" for i, j in m) for m in call.members]
        return _largest(values - expected)
    asked = np.zeros(values.shape[:2], dtype=bool)
    in_order = np.full(values.shape, np.nan)
    for heads, view in zip(call.members, expected, strict=True):
        asked[heads[0]] = True
        in_order[heads[0]] = view
    assert np.isnan(values[~asked]).all()
    return _largest((values - in_order)[asked])


def _largest(differences: Array) -> float:
    assert np.isfinite(differences).all()
    return float(abs(differences).max(initial=0))


def check(call: Call, model: Any, *, forward: str = "fused") -> None:
    found = ih.ablate_heads(model, call.evals, **call.arguments)
    assert found.attrs["forward"] == forward
    indices = call.arguments["context_indices"]
    assert found.by_context_index.context_index.values.tolist() == (
        list(range(1, call.evals.n_pos)) if indices == "all" else indices
    )
    if "at_indices" in call.arguments:
        assert found.at_indices.at_index.values.tolist() == call.arguments["at_indices"]
    assert largest_difference(model, call, found) <= TOLERANCE[model.cfg.dtype]


def drawn_and_checked(data: st.DataObject, **options: Any) -> None:
    call = data.draw(calls(**options))
    check(call, call.model.build())


@POSITION_KINDS
@draws(12)
@given(data=st.data())
def test_zero(positions: str, data: st.DataObject) -> None:
    drawn_and_checked(data, positions=[positions])


@POSITION_KINDS
@draws(8)
@given(data=st.data())
def test_few_indices_of_many(positions: str, data: st.DataObject) -> None:
    replace = data.draw(st.sampled_from(["zero", "mean", "resample"]))
    sizes = {"n_ctx": (10, 40), "length": (10, 40), "d_head": (4, 8)}
    drawn_and_checked(data, positions=[positions], replace=replace, few_indices=True, **sizes)


@pytest.mark.parametrize("replace", ["mean", "resample"])
@draws(10)
@given(data=st.data())
def test_other_replacements(replace: str, data: st.DataObject) -> None:
    drawn_and_checked(data, replace=replace)


@draws(12)
@given(data=st.data())
def test_float32(data: st.DataObject) -> None:
    drawn_and_checked(data, dtypes=[torch.float32])


@POSITION_KINDS
@draws(4)
@given(data=st.data())
def test_contexts_of_several_blocks_of_queries(positions: str, data: st.DataObject) -> None:
    drawn_and_checked(data, positions=[positions], n_ctx=(300, 300), length=(130, 300), max_layers=2)


@pytest.mark.parametrize("size", [{"d_mlp": 2**16}, {"d_vocab": 2**16}], ids=["neurons", "vocabulary"])
@draws(4)
@given(data=st.data())
def test_what_is_so_wide_that_it_is_computed_in_parts(size: dict[str, int], data: st.DataObject) -> None:
    forms = ["mlp", "gated", "parallel", "parallel_gated"] if "d_mlp" in size else ["attention_only", "mlp"]
    drawn_and_checked(
        data, fixed=size, forms=forms, max_layers=2, same_vocabularies=True, length=(6, 14), n_ctx=(6, 14)
    )


NOT_COVERED: dict[str, dict[str, Any]] = {
    "capped scores": {"attn_scores_soft_cap": 1.5},
    "capped logits": {"output_logits_soft_cap": 1.5},
    "normalised queries and keys": {"use_qk_norm": True},
}


@pytest.mark.parametrize("changes", NOT_COVERED.values(), ids=NOT_COVERED)
@draws(5)
@given(data=st.data())
def test_architectures_that_need_hooks_say_so(changes: dict[str, Any], data: st.DataObject) -> None:
    call = data.draw(calls(fixed=changes, max_layers=3))
    check(call, call.model.build(), forward="hooked")


@POSITION_KINDS
@draws(5)
@given(data=st.data())
def test_hooks_of_the_user_are_seen(positions: str, data: st.DataObject) -> None:
    call = data.draw(calls(positions=[positions], max_layers=3))
    name = data.draw(st.sampled_from(["attn.hook_v", "attn.hook_z", "attn.hook_pattern", "hook_resid_post"]))
    layer = data.draw(st.integers(0, call.model.sizes["n_layers"] - 1))
    model = call.model.build()
    model.add_hook(f"blocks.{layer}.{name}", lambda value, hook: 0.5 * value)
    check(call, model, forward="hooked")


@draws(4)
@given(data=st.data())
def test_hooks_of_pytorch_are_seen(data: st.DataObject) -> None:
    call = data.draw(calls(max_layers=3))
    model = call.model.build()
    model.blocks[0].attn.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    check(call, model, forward="hooked")


@pytest.mark.parametrize("kind", ["full", "pattern_preserving"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_bridges_are_run_by_hooks(architecture: str, kind: str, tmp_path: Path) -> None:
    model = tiny_bridge(architecture, tmp_path)
    tokens = torch.randint(2, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    members = [[(0, 1), (1, 2)], [(1, 0)]]
    arguments = {"kind": kind, "replace": "zero", "heads": [["L0H1", "L1H2"], ["L1H0"]], "context_indices": "all"}
    call = Call(None, tokens, 0, members, arguments)
    check(call, model, forward="hooked")
