"""Writing tensors to a file, with the operating system's error where that fails."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_CODE = re.compile(r"\b(?:code:|os error) (\d+)")
"""As versions of safetensors put it."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device as a safetensors file.

    Raises:
        OSError: if the file cannot be written, which safetensors tells as an error of its own.
    """
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        code = _CODE.search(str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
