"""A progress bar that says beforehand what the work costs, and is silent where nobody watches."""

from collections.abc import Generator, Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], description: str, *, total: int, show: bool) -> Generator[Item]:
    """Yield the items; on a terminal or in a notebook with a bar on standard error that goes away at the end."""
    console = Console(stderr=True)
    hidden = not (show and (console.is_terminal or console.is_jupyter))
    yield from track(items, description, total, console=console, transient=True, disable=hidden)
