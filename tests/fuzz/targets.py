"""The table of everything that is fuzzed: a name, what reads the bytes, and files that were really written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ih_lens.errors import IHLensError

Kind = Literal["bytes", "text", "json", "safetensors"]


@dataclass(frozen=True)
class Target:
    """A reader of bytes.

    Attributes:
        read: takes the bytes; whatever it raises but an error of this library is a finding, and so is a hang.
        seeds: really written contents to start from; called once.
        kind: how to mutate them: JSON as a tree, safetensors as a JSON header and numbers, else byte by byte.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    kind: Kind = "bytes"

    def accepts(self, content: bytes) -> bool:
        """Whether the content was read; False where it was refused in the way that it should be."""
        try:
            self.read(content)
        except IHLensError:
            return False
        return True


def all_targets() -> dict[str, Target]:
    """Every target by name; what is added here is run by `make fuzz` and, for a moment, by the tests."""
    from tests.fuzz.configurations import CONFIGURATIONS
    from tests.fuzz.files import FILES
    from tests.fuzz.tokens import TOKENS

    return {**FILES, **TOKENS, **CONFIGURATIONS}
