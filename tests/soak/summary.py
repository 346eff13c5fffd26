"""What a soak came to, in lines."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.soak.day import Day
from tests.soak.plan import Plan
from tests.soak.repeats import most_repeated, n_repeated


def summary(
    plan: Plan, days: Sequence[Day], left_out: Mapping[str, str], wrong: Sequence[str], seconds: float
) -> Iterator[str]:
    """Counts of everything, and all that was wrong."""
    calls = [call for day in days for call in day.calls]
    happened = sum((day.happened for day in days), Counter[str]())
    yield (
        f"\n{len(days)} days of {plan.n_models} models x {plan.n_snapshots} snapshots, {plan.workers} workers, "
        f"seed {plan.seed}, {seconds:.0f} s"
    )
    yield f"disturbances: {happened.total()}"
    yield from (f"  {n:4d} {name}" for name, n in sorted(happened.items()))
    yield from (f"     0 {name}: left out, {why}" for name, why in left_out.items())
    yield f"commands: {len(calls)}, ended with {dict(Counter(call.status for call in calls))}"
    for day in days:
        again = f"{n_repeated(day)} of them begun again, where {most_repeated(day)} may be"
        yield f"  {day.folder.name}: {plan.n_entries} measurements, {again}"
    everything = [*wrong, *(line for day in days for line in day.wrong)]
    yield f"wrong: {len(everything) or 'nothing'}"
    yield from (f"  {line}" for line in everything)
