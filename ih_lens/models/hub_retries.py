"""Trying again what failed on the way to the hub, and only that."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ih_lens.errors import DownloadError

_log = logging.getLogger(__name__)
_FINAL = (DisabledRepoError, GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError)
_BUSY = {408, 425, 429}
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_LONGEST_PAUSE = 60.0
Value = TypeVar("Value")


class IncompleteDownload(DownloadError):
    """A file came with another size than the hub says; another try may bring it whole."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: no connection, a time-out, half a file, a server in trouble.

    A repository or revision that does not exist, a gated one, and the offline mode stay as they are.
    """
    chain = list(causes(error))
    if constants.HF_HUB_OFFLINE or any(isinstance(cause, _FINAL) for cause in chain):
        return False
    return any(map(_is_passing, chain))


def hub_said(error: BaseException) -> str | None:
    """What the hub or the connection said, in one line; None if the error came from somewhere else."""
    for cause in causes(error):
        if isinstance(cause, (HfHubHTTPError, EntryNotFoundError, *_FINAL)) or _is_passing(cause):
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            return f"{type(cause).__name__}: {' '.join(lines[:2])[:300]}"
    return None


def with_retries(call: Callable[[], Value], *, retries: int, pause: float, what: str) -> Value:
    """Call until it succeeds, with pauses that double, as long as what fails may pass.

    Args:
        call: what to do; whole each time.
        retries: how often to try again.
        pause: seconds before the first time; each next one is twice as long, up to a minute.
        what: for the log.

    Raises:
        Exception: what the last call raised.
    """
    for n_failed in range(retries):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            seconds = min(pause * 2**n_failed, _LONGEST_PAUSE)
            _log.warning("%s: %s; trying again in %g seconds", what, hub_said(error), seconds)
        time.sleep(seconds)
    return call()


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_passing(error: BaseException) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status >= 500 or status in _BUSY
    if isinstance(error, HfHubHTTPError | EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return False
    return (
        isinstance(error, ConnectionError | TimeoutError | IncompleteDownload | LocalEntryNotFoundError)
        or type(error).__module__.partition(".")[0] in _TRANSPORTS
        or (isinstance(error, OSError) and "Consistency check failed" in str(error))
        # huggingface_hub before 2.0, where a connection was refused
        or (isinstance(error, RuntimeError) and "the client has been closed" in str(error))
    )
