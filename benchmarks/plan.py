"""How much is done: the whole run, one round of everything, or as little as a test needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The extent of one run.

    Attributes:
        tiny: tiny models and few examples, for tests: only the agreement of both sides means anything.
        quick: one round of each case, without memory.
        device: where models run.
    """

    tiny: bool = False
    quick: bool = False
    device: str = "cpu"

    def rounds(self, n: int) -> int:
        """How many of n rounds."""
        return 1 if self.quick or self.tiny else n

    def examples(self, n: int) -> int:
        """How many of n examples per call; a card takes more at a time."""
        if self.tiny:
            return min(n, 2)
        return n if self.device == "cpu" else 16 * n
