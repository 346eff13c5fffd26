"""One run: every case in turn, in one thread, then what has no other side; all of it as one record for JSON."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks import beyond, demo, paper_row, scale
from benchmarks.cases import all_cases, find_case
from benchmarks.harness import Case, Timing, interleave
from benchmarks.machine import best_of, describe_machine, matmul_ceilings, one_thread
from benchmarks.memory import Cost, cost_in_own_process
from benchmarks.plan import Plan

Say = Callable[[str], object]
_DEMO_TARGET_SECONDS = 180
_FLAT_WITHIN = 1.2


def names(plan: Plan) -> list[str]:
    """What `--only` may name."""
    return [*(case.name for case in all_cases(plan)), *_extras(plan)]


def run(plan: Plan, only: Sequence[str], command: str, say: Say, begin: Say = str) -> dict[str, Any]:
    """Measure what was asked for, everything if nothing was; what fails is recorded, and the rest goes on.

    Args:
        plan: how much.
        only: names of rows.
        command: as it was called, for the record.
        say: told what came out.
        begin: told what is being done.
    """
    start = time.perf_counter()
    with one_thread():
        begin("how fast this machine multiplies matrices")
        ceilings = matmul_ceilings(plan.device)
        record: dict[str, Any] = {
            "command": command,
            "date": datetime.now(UTC).date().isoformat(),
            "device": plan.device,
            "quick": plan.quick,
            "machine": describe_machine(plan.device),
            "rows": [],
            "failed": {},
        }
        asked = [name for name in names(plan) if not only or name in only]
        for place, name in enumerate(asked, start=1):
            begin(f"{name} ({place} of {len(asked)}, {(time.perf_counter() - start) / 60:.0f} minutes so far)")
            try:
                say(_measure(name, plan, record))
            except Exception as error:
                record["failed"][name] = f"{type(error).__name__}: {error}"
                say(f"{name} FAILED: {record['failed'][name]}")
        record["ceilings"] = best_of(ceilings, matmul_ceilings(plan.device))
    for row in [*record["rows"], *(record[name] for name in ("paper-row",) if name in record)]:
        _add_share(row, record["ceilings"])
    return {**record, "seconds": round(time.perf_counter() - start)}


def wrong(record: dict[str, Any]) -> list[str]:
    """What failed, and where both sides gave different numbers."""
    disagreeing = [row["name"] for row in record["rows"] if not row["agrees"]]
    if not record.get("demo", {"agrees": True})["agrees"]:
        disagreeing.append("demo")
    return [*record["failed"], *disagreeing]


def _measure(name: str, plan: Plan, record: dict[str, Any]) -> str:
    """Put one measurement into the record; returns a line about it."""
    extras = _extras(plan)
    if name in extras:
        record[name] = extras[name](plan)
        return f"{name}: done"
    row = _row(find_case(name, plan), plan)
    record["rows"].append(row)
    target = "" if row["target"] is None else f", at least {row['target']:g} asked for"
    return f"{name}: {row['ratio']:.3g} times faster{target}{'' if row['agrees'] else '; BOTH SIDES DISAGREE'}"


def _extras(plan: Plan) -> dict[str, Callable[[Plan], Any]]:
    """What is not a row of ratios."""
    on_card = {"paper-row": _paper_row}
    everywhere = {"beyond": _beyond, "scale": _scale}
    return {**everywhere, "demo": _demo} if plan.device == "cpu" else {**everywhere, **on_card}


def _row(case: Case, plan: Plan) -> dict[str, Any]:
    timing = _timing(case)
    row: dict[str, Any] = {
        **{name: getattr(case, name) for name in ("name", "work", "today", "target", "n_examples", "precision")},
        "ratio": timing.ratio,
        "ratios": timing.ratios,
        "today_seconds": statistics.median(timing.today_seconds),
        "our_seconds": statistics.median(timing.our_seconds),
        "difference": timing.difference,
        "tolerance": case.tolerance,
        "agrees": timing.difference <= case.tolerance,
        "reached": None if case.target is None else timing.ratio >= case.target,
    }
    if case.measures_memory and not plan.quick:
        costs: dict[str, Cost] = {
            "today": cost_in_own_process(case.name, "today", plan),
            "ours": cost_in_own_process(case.name, "ours", plan),
        }
        row |= {f"{which}_bytes": cost.extra_bytes for which, cost in costs.items()}
        row["operations"] = costs["ours"].operations
    return row


def _timing(case: Case) -> Timing:
    """The rounds; the models are forgotten afterwards."""
    timing = interleave(case.open(), n_examples=case.n_examples, rounds=case.rounds, n_warm_up=case.n_warm_up)
    gc.collect()
    return timing


def _add_share(row: dict[str, Any], ceilings: dict[str, float]) -> None:
    """How much of what the machine can multiply was used."""
    seconds = row.get("our_seconds", row.get("seconds"))
    if seconds and row.get("operations"):
        row["share_of_ceiling"] = row["operations"] / seconds / ceilings[row.get("precision", "float32")]


def _scale(plan: Plan) -> dict[str, Any]:
    points = scale.measure(plan)
    by_examples = [point for point in points if point.varied == "n_examples"]
    seconds = [point.seconds_per_head_token for point in by_examples]
    peaks = [point.extra_bytes for point in by_examples if point.extra_bytes]
    return {
        "points": [dataclasses.asdict(point) for point in points],
        "time_spread": max(seconds) / min(seconds),
        "memory_spread": max(peaks) / min(peaks) if peaks else None,
        "flat_within": _FLAT_WITHIN,
    }


def _demo(plan: Plan) -> dict[str, Any]:
    measured = demo.measure(plan)
    return {
        **dataclasses.asdict(measured),
        "ratio": measured.ratio,
        "target_seconds": _DEMO_TARGET_SECONDS,
        "agrees": measured.difference <= 1e-4,
    }


def _beyond(plan: Plan) -> list[dict[str, Any]]:
    return [dataclasses.asdict(expense) for expense in beyond.measure(plan)]


def _paper_row(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(paper_row.measure(plan))
