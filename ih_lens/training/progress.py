"""What a training costs, said before it begins, and how far it has come, shown while it runs."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ih_lens.progress import watched_console


@dataclass(frozen=True)
class TrainingCost:
    """What a training will take: parameters, tokens trained on, snapshots and their bytes on the disk."""

    n_parameters: int
    n_tokens: int
    n_snapshots: int
    disk_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.n_parameters:,} parameters, {self.n_tokens:,} tokens, {self.n_snapshots} snapshots, "
            f"{self.disk_bytes / 1e6:,.1f} MB on disk"
        )


class ProgressBar:
    """Steps, loss, tokens per second and time left; shows nothing without a bar."""

    def __init__(self, bar: Progress | None, task: TaskID | None, tokens_per_step: int) -> None:
        self._bar, self._task, self._tokens_per_step = bar, task, tokens_per_step

    def update(self, steps_done: int, loss: float) -> None:
        """Show the state after `steps_done` steps."""
        if self._bar is None or self._task is None:
            return
        speed = self._bar.tasks[0].speed
        rate = "" if speed is None else f"{speed * self._tokens_per_step:,.0f} tokens/s"
        self._bar.update(self._task, completed=steps_done, loss=f"{loss:.3f}", rate=rate)


@contextmanager
def progress_bar(
    name: str, cost: TrainingCost, *, start: int, n_steps: int, tokens_per_step: int, shown: bool
) -> Generator[ProgressBar]:
    """A bar for one training where a person can see it: on a terminal or in a notebook."""
    console = watched_console(shown)
    if console is None:
        yield ProgressBar(None, None, tokens_per_step)
        return
    console.print(f"[bold]{name}[/bold]: {cost}" + (f"; continued at step {start}" if start else ""), highlight=False)
    columns = [
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps  loss {task.fields[loss]}  {task.fields[rate]}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=n_steps, completed=start, loss="-", rate="")
        yield ProgressBar(bar, task, tokens_per_step)
