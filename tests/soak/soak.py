"""The whole of it: an undisturbed day, disturbed ones until the time is up, and a summary."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.calls import Server
from tests.soak.checks import compare
from tests.soak.clock import Clock
from tests.soak.day import Day
from tests.soak.disturbances import DISTURBANCES
from tests.soak.place import Place
from tests.soak.plan import Plan
from tests.soak.repeats import too_many_repeats
from tests.soak.summary import summary
from tests.soak.watched import n_noted


def soak(plan: Plan, out: Path, say: Callable[[str], None]) -> int:
    """Returns 1 if anything was wrong, and says what."""
    place = Place(out / "place", megabytes=64 + plan.n_models * plan.n_snapshots // 4)
    clock = Clock(out)
    left_out: dict[str, str] = dict.fromkeys(("full_disk", "read_only"), place.why_not) if place.why_not else {}
    chosen = [name for name in DISTURBANCES if name not in left_out]
    chance = random.Random(plan.seed)
    start = time.monotonic()
    days: list[Day] = []
    with Server(out / "said", clock.environment) as server:
        reference = _day(
            Plan(**{**vars(plan), "workers": 1, "cold_every": 0}), 0, out, place, clock, server, chance, say
        )
        reference.work([])
        wrong = [*reference.wrong, *compare(reference.folder, reference.folder, plan)]
        say(f"an undisturbed day with one worker: {time.monotonic() - start:.0f} s")
        while not wrong and (not days or time.monotonic() - start < 60 * plan.minutes):
            day = _day(plan, len(days) + 1, out, place, clock, server, chance, say)
            begin = time.monotonic()
            day.work(chosen)
            day.wrong += [*compare(day.folder, reference.folder, plan), *too_many_repeats(day)]
            took = f"{time.monotonic() - begin:.0f} s, {n_noted(day.notes)} measurements begun"
            say(f"{day.folder.name}: {took}, {len(day.wrong) or 'nothing'} wrong")
            days.append(day)
            if not day.wrong:
                shutil.rmtree(day.folder)
    for line in summary(plan, days, left_out, wrong, time.monotonic() - start):
        say(line)
    return int(bool(wrong) or any(day.wrong for day in days))


def _day(
    plan: Plan,
    number: int,
    out: Path,
    place: Place,
    clock: Clock,
    server: Server,
    chance: random.Random,
    say: Callable[[str], None],
) -> Day:
    return Day(plan, place, clock, server, place.folder / f"day_{number}", out / f"notes_{number}", chance, say)
