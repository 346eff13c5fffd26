"""What the numbers of a table depend on, besides the models and the examples."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ih_lens.errors import InputError
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation.replacements import REPLACEMENTS
from ih_lens.validate import at_least, chosen_context_indices, context_indices, device_of, one_of, seed_of


@dataclass(frozen=True)
class TableSettings:
    """Parameters of every measurement in a table; equal settings on equal weights are measured once.

    Attributes:
        early: early context index of the in-context learning score; None takes 50, or its share of a context
            shorter than 501 tokens.
        late: late context index; None takes 500, or its share.
        window: losses at both indices are averaged over this many indices to each side.
        n_examples: how many of the runs' held-out examples to measure on; None takes all of them.
        n_text_examples: on how many of those previous-token attention is measured.
        ablate: whether every head is ablated in every snapshot, the costly part.
        ablation: "pattern_preserving" (the paper's) or "full".
        replace: what stands in for an ablated head's output: "zero", "mean" or "resample".
        seed: of the evaluation set's random indices, of the random tokens that heads are scored on, and of "resample".
        batch_size: examples per forward pass, None for each measurement's default; changes numbers only by rounding.
        device: where models run; changes numbers only by rounding. Workers that are given "cuda" share the machine's
            GPUs, "cuda:1" is that one.
        threads: of PyTorch in each worker; changes numbers only by rounding, so it does not follow from `workers`.

    Examples:
        >>> TableSettings().resolved(48).context_indices
        (5, 47)
    """

    early: int | None = None
    late: int | None = None
    window: int = 0
    n_examples: int | None = None
    n_text_examples: int = 10
    ablate: bool = True
    ablation: str = "pattern_preserving"
    replace: str = "zero"
    seed: int = 0
    batch_size: int | None = None
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        at_least("window", self.window, 0)
        at_least("n_text_examples", self.n_text_examples, 1)
        at_least("threads", self.threads, 1)
        seed_of("seed", self.seed)
        device_of("device", self.device)
        one_of("ablation", self.ablation, list(ABLATIONS))
        one_of("replace", self.replace, list(REPLACEMENTS))
        for name in ("n_examples", "batch_size"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)

    def resolved(self, n_pos: int) -> "TableSettings":
        """The settings with both context indices chosen, for examples of `n_pos` tokens.

        Raises:
            InputError: if an index lies outside the examples, or early is not before late.
        """
        early, late = chosen_context_indices(n_pos, early=self.early, late=self.late).values()
        context_indices((early, late), n_pos)
        if early >= late:
            raise InputError(f"early must lie before late, got early={early} and late={late}; exchange them")
        return replace(self, early=early, late=late)

    @property
    def context_indices(self) -> tuple[int, int]:
        """The indices (early, late) of resolved settings."""
        if self.early is None or self.late is None:
            raise InputError("early and late are chosen when the length of the examples is known; call resolved(n_pos)")
        return self.early, self.late

    @property
    def scoring(self) -> dict[str, int]:
        """The arguments of the in-context learning score."""
        early, late = self.context_indices
        return {"early": early, "late": late, "window": self.window}

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON takes them."""
        return asdict(self)
