"""Computing in the types that tensors have, whatever precision the caller lets PyTorch choose."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import torch

_DEVICES = ("cpu", "cuda")


@contextmanager
def without_autocast() -> Generator[None]:
    """Inside, `torch.autocast` is off on every device, so that a number follows from the model's own type alone.

    Examples:
        >>> with torch.autocast("cpu"), without_autocast():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
