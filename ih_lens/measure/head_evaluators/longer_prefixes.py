"""Longer prefixes: whether a head tells a match of several tokens from a match of the last one only."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from jaxtyping import Int
from torch import Tensor

from ih_lens.data.induction_tokens import prefix_blocks, prefix_candidates
from ih_lens.data.random_tokens import n_random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.measure.head_evaluators._base import require_room
from ih_lens.measure.head_evaluators._places import PlacesEvaluator, Weights, prefix_targets
from ih_lens.types import ModelLike

Prefix = TypeVar("Prefix", bound="TwoTokenPrefixEvaluator")


@dataclass(frozen=True)
class TwoTokenPrefixEvaluator(PlacesEvaluator):
    """Attention to what followed the same two tokens, less that to what followed the last of them after another one.

    On `prefix_candidates`, in which both kinds of place stand in random order. A perfect head that matches two tokens
    scores 1, one that matches the last token only 0. (After footnote 7 of the paper, and the n-gram heads of Akyürek et
    al. 2024; the formula is this library's.)

    Examples:
        >>> score_heads(model, evaluators=["two_token_prefix"]).top("two_token_prefix", 3)
    """

    name: ClassVar[str] = "two_token_prefix"
    n_prefix: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    definition: ClassVar[str] = (
        "attention to the token after an earlier occurrence of the last 2 tokens, less attention summed over the "
        "tokens after places where only the last one is the same; mean over queries that have both, then over examples"
    )
    settings: ClassVar[tuple[str, ...]] = ("n_examples", "bos")
    needs: ClassVar[str] = "prefixes must come back beside others that end alike, as in prefix_candidates(model)"

    n_groups: int = 8

    def fitted(self: Prefix, model: ModelLike) -> Prefix:
        """With no more prefixes than context and vocabulary have room for."""
        n_places = model.cfg.n_ctx - (start_token(model, self.bos) is not None)
        n_own = int(prefix_blocks(self.n_prefix).max()) + 1
        room = min(n_places // (self.n_prefix * (self.n_prefix + 2)), n_random_tokens(model, self.bos) // n_own)
        return type(self)(n_examples=self.n_examples, bos=self.bos, n_groups=max(1, min(self.n_groups, room)))

    def tokens(
        self,
        model: ModelLike,
        *,
        seed: int = 0,
        text: Int[Tensor, "text_example text_pos"] | None = None,  # noqa: ARG002
    ) -> Int[Tensor, "example pos"]:
        """Prefixes that come back, and others that end alike."""
        n_places, n_own = self.n_prefix * (self.n_prefix + 2), int(prefix_blocks(self.n_prefix).max()) + 1
        require_room(model, self.name, n_places=n_places, n_tokens=n_own, bos=self.bos)
        return prefix_candidates(
            model, n_prefix=self.n_prefix, n_groups=self.n_groups, n_examples=self.n_examples, seed=seed, bos=self.bos
        )

    def places(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> Weights:  # noqa: ARG002
        """1 after full matches, -1 after those of the last token only, for queries that have both."""
        full = prefix_targets(tokens, 0, self.n_prefix)
        last_only = prefix_targets(tokens, 0, 1) & ~prefix_targets(tokens, 0, 2)
        has_both = full.any(-1, keepdim=True) & last_only.any(-1, keepdim=True)
        return (full.float() - last_only.float()) * has_both


@dataclass(frozen=True)
class ThreeTokenPrefixEvaluator(TwoTokenPrefixEvaluator):
    """The same with three tokens: 1 for a head that matches three, 1/2 for one that matches two, 0 for one."""

    name: ClassVar[str] = "three_token_prefix"
    n_prefix: ClassVar[int] = 3
    definition: ClassVar[str] = TwoTokenPrefixEvaluator.definition.replace("last 2", "last 3")


@dataclass(frozen=True)
class FourTokenPrefixEvaluator(TwoTokenPrefixEvaluator):
    """The same with four tokens: 1 for a head that matches four, 1/2 for three, 1/3 for two, 0 for one."""

    name: ClassVar[str] = "four_token_prefix"
    n_prefix: ClassVar[int] = 4
    definition: ClassVar[str] = TwoTokenPrefixEvaluator.definition.replace("last 2", "last 4")
