"""What a measurement holds in memory: the largest single tensor, and the most that lives at once."""

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ih_lens as ih

KINDS = ["pattern_preserving", "full"]
SIZES: dict[str, dict[str, int]] = {"attention_only": {}, "with_mlps": {"d_mlp": 64}}


class Watch(TorchDispatchMode):
    """Follows the storages that operations make while it is active; views make none.

    Attributes:
        largest: the most elements that one of them had room for.
        peak: the most bytes that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.peak, self._live = 0, 0, 0
        self._known: set[int] = set()

    def ignore(self, *tensors: torch.Tensor) -> "Watch":
        """Take these as not made here: weights and tokens, of which operations return views."""
        self._known |= {tensor.untyped_storage().data_ptr() for tensor in tensors}
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor)
        return made

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if not storage.nbytes() or storage.data_ptr() in self._known:
            return
        self._known.add(storage.data_ptr())
        self.largest = max(self.largest, storage.nbytes() // tensor.element_size())
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, storage.data_ptr(), storage.nbytes())

    def _forget(self, known: int, n_bytes: int) -> None:
        self._known.discard(known)
        self._live -= n_bytes


def _watch(model: Any) -> Watch:
    return Watch().ignore(*model.parameters(), *model.buffers())


def _model(**sizes: Any) -> Any:
    defaults: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_vocab": 50, "n_ctx": 32}
    make = ih.with_mlps if "d_mlp" in sizes else ih.attention_only
    return ih.build_model(make(**{**defaults, **sizes}))


def _evals(model: Any, n_examples: int) -> ih.EvalSet:
    shape = (n_examples, model.cfg.n_ctx)
    return ih.EvalSet.from_tokens(
        torch.randint(0, model.cfg.d_vocab, shape, generator=torch.Generator().manual_seed(0))
    )


def test_the_watch_sees_what_lives() -> None:
    with Watch() as watch:
        first = torch.zeros(1000)
        second = first[:10] + 1
        del first
        third = torch.zeros(500)
    assert (watch.largest, watch.peak) == (1000, 4040)
    assert len(second) + len(third) == 510


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_ablation_never_holds_the_logits_of_an_example(sizes: dict[str, int], kind: str) -> None:
    model = _model(d_vocab=20_000, **sizes)
    with _watch(model) as watch:
        ih.ablate_heads(model, _evals(model, 2), kind=kind, context_indices="all")
    assert watch.largest < model.cfg.n_ctx * model.cfg.d_vocab


def _peak(model: Any, n_examples: int, **arguments: Any) -> int:
    """Most bytes alive at once in one call beside a copy of the tokens."""
    evals = _evals(model, n_examples)
    ih.ablate_heads(model, _evals(model, 2))  # what a process does once is not counted
    with _watch(model) as watch:
        ih.ablate_heads(model, evals, **arguments)
    return watch.peak - evals.tokens.nbytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context_indices", ["all", (20,)], ids=["all", "few"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_ablation_needs_no_more_memory_for_more_examples(
    sizes: dict[str, int], context_indices: Any, kind: str
) -> None:
    model = _model(**sizes)
    arguments = {"kind": kind, "context_indices": context_indices, "batch_size": 64}
    few, many = (_peak(model, n_examples, **arguments) for n_examples in (128, 512))
    assert many < 1.25 * few


def test_nor_without_a_batch_size() -> None:
    model = _model(d_model=64)
    few, many = (_peak(model, n_examples) for n_examples in (2048, 4096))
    assert many < 1.25 * few
    assert many < 2**28


@pytest.mark.parametrize("context_indices", ["all", (20,)], ids=["all", "few"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_ablation_needs_no_more_memory_for_more_heads(sizes: dict[str, int], context_indices: Any) -> None:
    model = _model(n_heads=16, d_head=4, **sizes)
    heads = [(layer, head) for layer in range(2) for head in range(16)]
    arguments = {"context_indices": context_indices, "batch_size": 8}
    few, many = (_peak(model, 16, heads=some, **arguments) for some in (heads[::2], heads))
    assert many < 1.5 * few


def test_losses_never_hold_the_logits_of_an_example() -> None:
    model = _model(d_vocab=20_000)
    with _watch(model) as watch:
        ih.token_losses(model, _evals(model, 2))
    assert watch.largest < model.cfg.n_ctx * model.cfg.d_vocab


def test_scores_form_nothing_of_the_size_of_the_vocabulary_for_every_head() -> None:
    model = _model(d_vocab=20_000, n_heads=8, n_ctx=128)
    with _watch(model) as watch:
        ih.score_heads(model, n_examples=2)
    assert watch.largest <= 2 * model.cfg.d_vocab * model.cfg.d_model


def test_circuits_form_nothing_of_the_size_of_the_vocabulary_for_every_head() -> None:
    model = _model(d_vocab=5000, n_heads=8)
    with _watch(model) as watch:
        ih.ov_copying_eigenvalue_score(model)
        ih.qk_eigenvalue_trace(model, torch.rand(2, 8))
    assert watch.largest <= 2 * model.cfg.d_vocab * model.cfg.d_model


def test_attribution_holds_no_more_than_its_result() -> None:
    model = _model(d_vocab=5000, n_ctx=200, n_heads=4)
    tokens = _evals(model, 1).tokens
    with _watch(model) as watch:
        result = ih.logit_attribution(model, tokens)
    assert watch.largest <= max(result.numel(), model.cfg.d_vocab * model.cfg.d_model)
    assert watch.peak < 3 * 4 * result.numel()
