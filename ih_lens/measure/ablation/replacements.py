"""What takes the place of an ablated head's z, the weighted sum of its values at each position."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.eval_set import EvalSet
from ih_lens.errors import InputError
from ih_lens.measure.ablation._base import LayerOutputs
from ih_lens.measure.forward import start_rows
from ih_lens.models.folded import FoldedModel
from ih_lens.types import ModelLike


@runtime_checkable
class Replacement(Protocol):
    """A source of replacements, made once for an evaluation set."""

    def for_examples(self, examples: slice) -> LayerOutputs:
        """Per layer the replacement of every head's z for these examples."""
        ...


@dataclass(frozen=True, repr=False)
class CleanOutputs:
    """Every head's z in the unablated model.

    Attributes:
        model: the model.
        folded: the same, folded, where no hook looks on; else None, and the model itself is run.
    """

    model: ModelLike
    folded: FoldedModel | None

    def of(
        self, tokens: Int[Tensor, "example pos"], layers: Sequence[int]
    ) -> dict[int, Float[Tensor, "example pos head_index d_head"]]:
        """In these layers, on these tokens."""
        if self.folded is None:
            return _hooked_outputs(self.model, tokens, layers)
        found: dict[int, Tensor] = {}
        residual = self.folded.embed(tokens.to(self.folded.W_E.device))
        for place, layer in enumerate(self.folded.layers[: max(layers) + 1]):
            z = layer.outputs(residual)
            if place in layers:
                found[place] = z
            residual = layer.behind(layer.write(z, residual), residual)
        return found


class Zero:
    """Nothing: the head writes no value at all (the paper's ablation); `b_O` stays, as it is no head's."""

    def __init__(self, clean: CleanOutputs, evals: EvalSet, layers: Sequence[int], seed: int, batch_size: int):  # noqa: ARG002
        cfg = clean.model.cfg
        self._zeros = {layer: torch.zeros(1, 1, cfg.n_heads, cfg.d_head, device="cpu") for layer in layers}

    def for_examples(self, examples: slice) -> LayerOutputs:  # noqa: ARG002
        """Zeros for all."""
        return self._zeros


class Mean:
    """The head's mean z over all examples and all positions of the evaluation set, in the unablated model.

    One vector per head, so that what is removed is all that the head tells about example and position. Sums are
    kept in float64.
    """

    def __init__(self, clean: CleanOutputs, evals: EvalSet, layers: Sequence[int], seed: int, batch_size: int):  # noqa: ARG002
        sums: dict[int, Tensor] = {}
        for start in range(0, evals.n_examples, batch_size):
            for layer, z in clean.of(evals.tokens[start : start + batch_size], layers).items():
                sums[layer] = sums.get(layer, 0) + z.double().sum(dim=(0, 1), keepdim=True)
        self._means = {layer: total / evals.tokens.numel() for layer, total in sums.items()}

    def for_examples(self, examples: slice) -> LayerOutputs:  # noqa: ARG002
        """The same means for all."""
        return self._means


class Resample:
    """The head's z at the same position of another example, in the unablated model.

    A seeded random cycle through all examples says which: no example stands for itself, and each stands for one.
    """

    def __init__(self, clean: CleanOutputs, evals: EvalSet, layers: Sequence[int], seed: int, batch_size: int):  # noqa: ARG002
        if evals.n_examples < 2:
            raise InputError("replace='resample' takes outputs from another example; this evaluation set has only one")
        self._clean = clean
        self._tokens = evals.tokens[other_examples(evals.n_examples, seed)]
        self._layers = layers

    def for_examples(self, examples: slice) -> LayerOutputs:
        """What the other examples' heads put out."""
        return self._clean.of(self._tokens[examples], self._layers)


ReplacementSource = Callable[[CleanOutputs, EvalSet, Sequence[int], int, int], Replacement]
"""Makes a replacement from the unablated outputs, the evaluation set, the layers needed, a seed and the batch size."""

REPLACEMENTS: dict[str, ReplacementSource] = {
    "zero": Zero,
    "mean": Mean,
    "resample": Resample,
}


def other_examples(n_examples: int, seed: int) -> Int[Tensor, "example"]:
    """For each example another one: its successor in a random cycle through all."""
    order = torch.randperm(n_examples, generator=torch.Generator().manual_seed(seed), device="cpu")
    others = torch.empty_like(order)
    others[order] = order.roll(-1)
    return others


def _hooked_outputs(
    model: ModelLike, tokens: Int[Tensor, "example pos"], layers: Sequence[int]
) -> dict[int, Float[Tensor, "example pos head_index d_head"]]:
    """Every head's z in these layers of the unablated model."""
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook_z(z: Tensor, hook: Any) -> None:  # noqa: ARG001
            found[layer] = z

        return hook_z

    start_rows(model, tokens).advance(
        max(layers) + 1, [(f"blocks.{layer}.attn.hook_z", keep(layer)) for layer in layers]
    )
    return found
