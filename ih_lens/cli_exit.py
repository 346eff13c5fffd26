"""How the command line ends when something goes wrong: one message on standard error and an exit status."""

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import typer

from ih_lens.errors import IHLensError, InputError

_NO_MEMORY = ("can't allocate memory", "out of memory", "Unable to allocate")
"""In the words of PyTorch, CUDA and NumPy."""
_NO_DEVICE = ("not compiled with", "No CUDA GPUs", "invalid device ordinal", "NVIDIA driver")
_MAY_BE_EMPTY = ("--separator", "--title")


def check_words(words: Sequence[str]) -> None:
    """Refuse what nobody passes on purpose: an empty word where a path is meant would mean the working directory.

    Raises:
        InputError: if there is one.
    """
    for before, word in pairwise(["", *words]):
        if "\0" in word:
            raise InputError(f"{word[:200]!r} holds a NUL character, which no name of a file or model has")
        if not word and before not in _MAY_BE_EMPTY:
            raise InputError("an argument is empty, most often an unset variable of the shell; fill it or leave it out")


def fail(message: str, status: int) -> NoReturn:
    """Say it and end."""
    typer.echo(f"ih-lens: {message}", err=True)
    sys.exit(status)


def end_with(error: BaseException) -> NoReturn:
    """End with what an error says, and with the traceback only if it is asked for."""
    if isinstance(error, SystemExit | GeneratorExit):
        raise error
    if isinstance(error, IHLensError):
        fail(str(error), 2)
    if isinstance(error, OSError):
        where = "" if error.filename is None else f": {error.filename}"
        fail(f"{error.strerror or error}{where}. Check the path, its permissions and the space left", 2)
    usage = getattr(error, "format_message", None)
    if usage is not None:
        if not usage():  # called without a command, which has shown the help already
            sys.exit(2)
        fail(f"{usage().rstrip('.')}. `ih-lens --help` shows how it is called", 2)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        said = (str(error).splitlines() or ["no memory is left"])[0][:200]
        fail(f"there is not enough memory for this ({said}); ask for fewer or smaller things", 2)
    if any(words in str(error) for words in _NO_DEVICE):
        fail(f"the device cannot be used here ({str(error).splitlines()[0][:200]}); give --device cpu", 2)
    if os.environ.get("IH_LENS_TRACEBACK"):
        traceback.print_exception(error)
    fail(f"unexpected {type(error).__name__}: {error}. IH_LENS_TRACEBACK=1 shows where; please report it", 70)
