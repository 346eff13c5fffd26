"""Progress of long work, with what it costs said beforehand; silent where nobody watches."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

Item = TypeVar("Item")


def watched_console(show: bool) -> Console | None:
    """Standard error if somebody watches it, on a terminal or in a notebook, and progress is wanted."""
    console = Console(stderr=True)
    return console if show and (console.is_terminal or console.is_jupyter) else None


def with_progress(items: Iterable[Item], description: str, *, total: int, show: bool) -> Generator[Item]:
    """Yield the items; on a terminal or in a notebook with a bar on standard error that goes away at the end."""
    console = watched_console(show)
    yield from track(items, description, total, console=console, transient=True, disable=console is None)


@contextmanager
def progress_bar(description: str, *, total: int, show: bool) -> Generator[Callable[[int], None]]:
    """A bar for work that tells how much is done; what it gives may be called from any thread."""
    console = watched_console(show)
    with Progress(console=console, transient=True, disable=console is None) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n_done: bar.update(task, completed=n_done)
