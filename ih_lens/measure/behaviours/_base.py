"""What every behaviour offers: texts on which it can be seen, and where to look in them."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from ih_lens.errors import CapabilityError
from ih_lens.types import ModelLike

TARGETS = "targets"
Entries = tuple[tuple[int, int, float], ...]
"""Entries of an attention pattern with weights: destination, source, weight."""


@dataclass(frozen=True)
class BehaviourText:
    """One example.

    Attributes:
        ids: its tokens.
        readings: weighted sums of attention by name; "targets" is the behaviour itself. None or empty where this
            example says nothing.
        rivals: per destination, ids that the one that comes next is compared with; without any, its logit counts as
            it is.
    """

    ids: tuple[int, ...]
    readings: Mapping[str, Entries]
    rivals: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def destinations(self) -> tuple[int, ...]:
        """The positions whose attention counts; what they attend to predicts the token after each.

        Examples:
            >>> text = PatternMatching().texts(model).texts[0]
            >>> induction_view(model, torch.tensor(text.ids), destinations=text.destinations)
        """
        return tuple(sorted({query for query, _, _ in self.readings[TARGETS]}))

    @property
    def targets(self) -> dict[int, tuple[int, ...]]:
        """Per destination, the sources that a head with this behaviour attends to."""
        found: dict[int, list[int]] = {}
        for query, key, _ in self.readings[TARGETS]:
            found.setdefault(query, []).append(key)
        return {query: tuple(sorted(keys)) for query, keys in sorted(found.items())}


@dataclass(frozen=True)
class BehaviourTexts:
    """Examples of one behaviour for one tokenizer, and the same without what makes the behaviour possible.

    Attributes:
        texts: the examples.
        controls: one for each: attention is read at the same places, but nothing relates them.
        description: what the examples are, for the attributes of results.
    """

    texts: tuple[BehaviourText, ...]
    controls: tuple[BehaviourText, ...]
    description: Mapping[str, Any]


@dataclass(frozen=True)
class Behaviour(ABC):
    """Something that heads may do on text; the fields are its parameters.

    Attributes:
        name: the measure's name in results.
        definition: one sentence for the attributes of results.
        control: one sentence on what the baseline is measured on.
        details: names of further readings, and their definitions.
    """

    name: ClassVar[str]
    definition: ClassVar[str]
    control: ClassVar[str]
    details: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def texts(self, model: ModelLike, *, seed: int = 0) -> BehaviourTexts:
        """The examples for this model's tokenizer and context; it is not run.

        Raises:
            CapabilityError: if the model has no tokenizer, or none of the examples can be shown to it.
        """

    def derived(
        self,
        found: Mapping[str, Float[Tensor, "example layer head_index"]],  # noqa: ARG002
    ) -> dict[str, Float[Tensor, "example layer head_index"]]:
        """Measures that are made of the readings of single examples."""
        return {}

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)


def mean_over(targets: Mapping[int, Collection[int]]) -> Entries:
    """Attention summed over each destination's sources, as a mean over destinations."""
    return tuple((query, key, 1 / len(targets)) for query, keys in targets.items() for key in keys)


def some_examples(behaviour: str, n_left: int, why: str) -> None:
    """Refuse to go on without any example.

    Raises:
        CapabilityError: with the reason.
    """
    if n_left == 0:
        raise CapabilityError(f"{behaviour}: this model can be shown none of the examples: {why}")
