"""What every head evaluator offers, so that `score_heads` and the tests can treat them alike."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from ih_lens.data.random_tokens import n_random_tokens
from ih_lens.data.start_tokens import start_token
from ih_lens.errors import CapabilityError, InputError
from ih_lens.measure.attention import AttentionReduction, measurable_tokens, measure_attention
from ih_lens.types import ModelLike
from ih_lens.validate import at_least, start_column, token_batch

_FARTHEST = 2**31
"""Targets may be shifted to both sides."""

Evaluator = TypeVar("Evaluator", bound="HeadEvaluator")


@dataclass(frozen=True)
class HeadEvaluator(ABC):
    """Scores every head from its activity on tokens (paper, Data Collection (3)); the fields are its parameters.

    Attributes:
        name: the measure's name in results.
        range: smallest and largest possible score.
        definition: one sentence for the result's attributes, with the default parameters.
        settings: the arguments of `score_heads` that set a field of this evaluator.
        uses_text: whether it is meant for examples of the training distribution, where there are any.
        follows_tokens: whether its targets depend on which tokens stand where, and not on positions alone.
    """

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]]
    definition: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    uses_text: ClassVar[bool] = False
    follows_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            _require_type(entry.name, getattr(self, entry.name), entry.default)

    @abstractmethod
    def tokens(
        self, model: ModelLike, *, seed: int = 0, text: Int[Tensor, "text_example text_pos"] | None = None
    ) -> Int[Tensor, "example pos"]:
        """The examples to score `model` on; `text` are examples of its training distribution."""

    @abstractmethod
    def score(self, model: ModelLike, tokens: Tensor, *, batch_size: int | None = None) -> Float[Tensor, "layer head"]:
        """One score per head; NaN where it is not defined."""

    @abstractmethod
    def fitted(self, model: ModelLike) -> "HeadEvaluator":
        """With examples shortened, where need be, to the model's context and vocabulary."""

    def defined(self) -> str:
        """The definition; where parameters change it, with what they make of it."""
        return self.definition

    def undefined(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> str | None:  # noqa: ARG002
        """Why some heads of this model have no score on these tokens, where that is known without a run."""
        return None

    def configured(self: Evaluator, **settings: Any) -> Evaluator:
        """With the given settings, as far as this evaluator has them."""
        own = {name: value for name, value in settings.items() if name in self.settings}
        return dataclasses.replace(self, **own)

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)


def _require_type(name: str, value: Any, default: Any) -> None:
    """Refuse a parameter that is not of its default's type; a start token is an id, a text or None."""
    if name == "bos":
        if isinstance(value, bool) or not isinstance(value, int | str | None):
            raise InputError(f"bos: expected 'auto', a token id or None, got {value!r}")
    elif type(default) is int:
        at_least(name, value, 0 if name != "offset" else -_FARTHEST)
    elif isinstance(default, str) and not isinstance(value, str):
        raise InputError(f"{name}: expected a text such as {default!r}, got {value!r}")


@dataclass(frozen=True)
class AttentionEvaluator(HeadEvaluator):
    """An evaluator that needs nothing but attention; those that share their tokens share one run of the model."""

    @abstractmethod
    def reduction(self, model: ModelLike, tokens: Int[Tensor, "example pos"]) -> AttentionReduction:
        """What it makes of attention on these tokens; raises where they or the model do not allow it."""

    def score(self, model: ModelLike, tokens: Tensor, *, batch_size: int | None = None) -> Float[Tensor, "layer head"]:
        """One score per head, from a run of its own."""
        tokens = measurable_tokens(model, tokens)
        return measure_attention(model, tokens, [self.reduction(model, tokens)], batch_size=batch_size)[0]


def check_examples(model: ModelLike, tokens: Tensor, bos: int | str | None) -> None:
    """Refuse examples that are too short, or lack the start token that an evaluator gives its own.

    Raises:
        InputError: if they are or do.
    """
    token_batch(tokens, min_length=2)
    if start_token(model, bos) is not None:
        start_column(tokens)


def layers_named(layers: Sequence[int]) -> str:
    """Layers as a reason names them."""
    return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"


def require_room(model: ModelLike, what: str, *, n_places: int, n_tokens: int, bos: int | str | None) -> None:
    """Refuse a model whose context or vocabulary cannot hold the smallest example that a measure can do with.

    Raises:
        CapabilityError: saying what it takes and what there is.
    """
    has_places = model.cfg.n_ctx - (start_token(model, bos) is not None)
    has_tokens = n_random_tokens(model, bos)
    if has_places < n_places or has_tokens < n_tokens:
        raise CapabilityError(
            f"{what} takes at least {n_places} positions and {n_tokens} different tokens; this model has {has_places} "
            f"positions and {has_tokens} tokens to draw from"
        )


def fitting_length(model: ModelLike, length: int, repeats: int, bos: int | str | None) -> int:
    """The period, or the longest shorter one that the vocabulary and `repeats` times the context have room for."""
    n_start = start_token(model, bos) is not None
    n_places = (model.cfg.n_ctx - n_start) // at_least("repeats", repeats, 1)
    return min(length, n_places, n_random_tokens(model, bos))
