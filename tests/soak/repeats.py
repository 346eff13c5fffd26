"""How many measurements a day may begin again.

A worker that ends in any way loses the measurement that it was taking, and a full disk one more: what is missing is
only known when it is stored. Beside that, two commands at once may take the same measurements.
"""

from collections.abc import Iterator

from tests.soak.day import Day
from tests.soak.watched import sessions_noted

_OF_A_WORKER = 2


def n_repeated(day: Day) -> int:
    """Measurements begun beyond the first time."""
    return len(sessions_noted(day.notes)) - day.plan.n_entries


def most_repeated(day: Day) -> int:
    """The most that may be: for every command but one and every killed worker, for all of a command's workers."""
    n_tables = sum(call.kind == "table" for call in day.calls)
    n_breaks = n_tables - 1 + day.happened["kill_worker"]
    return _OF_A_WORKER * day.plan.workers * n_breaks + _side_by_side(sessions_noted(day.notes)) // 2


def too_many_repeats(day: Day) -> Iterator[str]:
    """What to say if a day took more again than it may have."""
    if (n := n_repeated(day)) > (most := most_repeated(day)):
        yield f"{n} measurements were begun again, and {most} may have been"


def _side_by_side(sessions: list[int]) -> int:
    """Measurements that began while two commands or more were measuring."""
    spans = {one: (sessions.index(one), len(sessions) - sessions[::-1].index(one)) for one in set(sessions)}
    return sum(sum(first <= place < end for first, end in spans.values()) > 1 for place in range(len(sessions)))
