"""Heads whose output is taken away: zero, a mean, or that of another example."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ih_lens.clamping._base import Clamp, Heads, Place, Target, places_of_heads, several_heads
from ih_lens.clamping.state import ClampState
from ih_lens.errors import InputError
from ih_lens.models.hooked_transformer import LoadedModel
from ih_lens.types import HeadIndex
from ih_lens.validate import at_least, listed, number, one_of


@dataclass(frozen=True)
class HeadClamp(Clamp):
    """A clamp of what some heads give out, before W_O.

    Attributes:
        heads: one head or several, spelled as everywhere: "L0H3", "0.3" or (0, 3).
    """

    heads: Heads

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "heads", several_heads(self.heads))

    def places(self, cfg: Any) -> list[Place]:
        """The outputs of these heads."""
        return places_of_heads(several_heads(self.heads), cfg, "hook_z", axis=2)


@dataclass(frozen=True)
class ZeroHead(HeadClamp):
    """Heads that write nothing: ablated, in training as in measuring.

    Examples:
        >>> ZeroHead(["L1H1", "L1H2", "L1H3"])
    """

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """Zeros."""
        return Target(torch.zeros_like(natural))


@dataclass(frozen=True)
class MeanHead(HeadClamp):
    """Heads that always write their mean.

    Attributes:
        over: "batch" for the mean over the examples of the forward pass at each position, "all" for the mean over its
            examples and positions, "given" for `means`.
        means: outputs before W_O that were measured before, one row of d_head numbers per head, in the order of
            `heads`; see `MeanHead.measured`.

    Examples:
        >>> MeanHead("L0H1", over="batch")
    """

    over: str = "batch"
    means: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("over", self.over, ["batch", "all", "given"])
        rows = [listed("means", row, "rows of numbers") for row in listed("means", self.means, "rows of numbers")]
        object.__setattr__(self, "means", tuple(tuple(float(number("means", mean)) for mean in row) for row in rows))
        n_heads = len(several_heads(self.heads)) if self.over == "given" else 0
        if len(self.means) != n_heads:
            raise InputError(
                f"means: expected {n_heads} rows with over={self.over!r}, got {len(self.means)}; make the clamp with "
                "MeanHead.measured(model, heads, tokens)"
            )

    @classmethod
    def measured(
        cls, model: LoadedModel, heads: Heads, tokens: Int[Tensor, "example pos"], **settings: Any
    ) -> "MeanHead":
        """Heads held at the mean of what they write on some tokens, over examples and positions.

        Args:
            model: whose heads they are, as it is now.
            heads: one head or several.
            tokens: examples that the means are taken over.
            **settings: what every clamp has, such as strength and during.

        Examples:
            >>> MeanHead.measured(run.snapshots[-1].load(), "L0H1", run.held_out, during=During(100))
        """
        chosen = several_heads(heads)
        names = {f"blocks.{layer}.attn.hook_z" for layer, _ in chosen}
        cls(chosen).places(model.cfg)  # refuses heads that the model lacks
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=list(names), return_type=None)
        rows = [cache[f"blocks.{layer}.attn.hook_z"][:, :, head].mean(dim=(0, 1)).tolist() for layer, head in chosen]
        return cls(chosen, over="given", means=tuple(map(tuple, rows)), **settings)

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """The mean, through which no gradient flows."""
        if self.over != "given":
            dims = (0,) if self.over == "batch" else (0, 1)
            return Target(natural.detach().mean(dim=dims, keepdim=True).expand_as(natural))
        by_head = dict(zip(several_heads(self.heads), self.means, strict=True))
        held = natural.new_tensor([by_head[HeadIndex(place.layer or 0, head)] for head in place.heads])
        if held.shape[-1] != natural.shape[-1]:
            raise InputError(f"means: expected rows of d_head={natural.shape[-1]} numbers, got {held.shape[-1]}")
        return Target(held.expand_as(natural))


@dataclass(frozen=True)
class ResampleHead(HeadClamp):
    """Heads that write what they would on another example of the forward pass.

    Attributes:
        seed: of the permutation, which is another one at each step of a training.

    Examples:
        >>> ResampleHead("L0H1", seed=3)
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("seed", self.seed, 0)

    def target(self, natural: Tensor, place: Place, state: ClampState) -> Target:  # noqa: ARG002
        """The outputs on the other examples, through which no gradient flows."""
        generator = torch.Generator().manual_seed(hash((self.seed, state.step)) % 2**63)
        other = torch.randperm(len(natural), generator=generator, device="cpu").to(natural.device)
        return Target(natural.detach()[other])
