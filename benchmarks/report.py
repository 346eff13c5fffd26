"""A run's record as JSON and Markdown, and as the page of the documentation.

`python -m benchmarks.report ih_lens_bench/results.json` takes a run into docs/benchmarks.json and docs/benchmarks.md.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

DOCS = Path(__file__).parents[1] / "docs"
_INTRO = Path(__file__).with_name("intro.md")
Record = dict[str, Any]


def write(record: Record, folder: Path) -> None:
    """`results.json` and `results.md` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
    (folder / "results.md").write_text(tables(record), encoding="utf8")


def joined(record: Record, folder: Path, order: Sequence[str]) -> Record:
    """A record with what the folder's has of other rows, measured before on this machine."""
    file = folder / "results.json"
    if not file.exists():
        return record
    before: Record = json.loads(file.read_text(encoding="utf8"))
    rows = {row["name"]: row for row in (*before["rows"], *record["rows"])}
    again = {*record["failed"], *(row["name"] for row in record["rows"])}
    failed = {name: error for name, error in before["failed"].items() if name not in again}
    return {
        **before,
        **record,
        "failed": {**failed, **record["failed"]},
        "rows": sorted(rows.values(), key=lambda row: order.index(row["name"])),
        "command": f"{before['command']}, then {record['command']}",
        "seconds": before["seconds"] + record["seconds"],
        "ceilings": {name: max(value, before["ceilings"][name]) for name, value in record["ceilings"].items()},
    }


def page(record: Record) -> str:
    """The documentation's page: what is measured how, and the tables of one run."""
    return _INTRO.read_text(encoding="utf8") + "\n" + tables(record)


def tables(record: Record) -> str:
    """All tables of a record."""
    parts = [_circumstances(record)]
    if record["rows"]:
        parts += ["## Ratios", _ratios(record["rows"]), _below(record["rows"])]
    if "beyond" in record:
        parts += ["## Cost of what goes beyond the paper", *_beyond(record["beyond"])]
    if "demo" in record:
        parts += ["## The demo", _demo(record["demo"])]
    if "scale" in record:
        parts += ["## Cost over scale", *_scale(record["scale"])]
    if "paper-row" in record:
        parts += ["## The paper's ablation row on a card", _paper_row(record["paper-row"])]
    parts += [f"FAILED, `{name}`: {error}" for name, error in record["failed"].items()]
    return "\n\n".join(parts) + "\n"


def overview(record: Record) -> Table:
    """The ratios in short, for a terminal."""
    table = Table()
    for name in ("", "times faster", "range", "asked", "MB today", "MB here", "share"):
        table.add_column(name, no_wrap=True)
    for row in record["rows"]:
        lowest, highest = _short(min(row["ratios"])), _short(max(row["ratios"]))
        shown = _ratio_row(row)
        table.add_row(row["name"], _short(row["ratio"]), f"{lowest}-{highest}", shown[3], *shown[7:10])
    return table


def _circumstances(record: Record) -> str:
    machine, ceilings = record["machine"], record["ceilings"]
    where = machine.get("card", machine["processor"])
    limits = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in sorted(ceilings.items()))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        "## The run\n\n"
        f"`{record['command']}` on {record['date']}, {record['seconds'] / 60:.0f} minutes"
        f"{', one round of each only' if record['quick'] else ''}; {where}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; Python {machine['python']}, {versions}; "
        f"{machine['threads']} thread; load before the run {machine['load_at_start']}.\n\n"
        f"Products of large matrices, GFLOP/s, best of several before and after everything else: {limits}."
    )


def _ratios(rows: Sequence[Record]) -> str:
    header = (
        "work",
        "today",
        "times faster (lowest to highest)",
        "at least",
        "seconds today",
        "seconds here",
        "largest difference",
        "peak MB today",
        "peak MB here",
        "share of ceiling",
    )
    return _table(header, [_ratio_row(row) for row in rows])


def _ratio_row(row: Record) -> Sequence[str]:
    missed = "" if row["reached"] is not False else " (missed)"
    return (
        f"`{row['name']}`: {row['work']}",
        row["today"],
        f"**{_short(row['ratio'])}** ({_short(min(row['ratios']))} to {_short(max(row['ratios']))})",
        "" if row["target"] is None else f"{row['target']:g}{missed}",
        _short(row["today_seconds"]),
        _short(row["our_seconds"]),
        f"{row['difference']:.0e}{'' if row['agrees'] else ' TOO LARGE'}",
        _megabytes(row.get("today_bytes")),
        _megabytes(row.get("ours_bytes")),
        "" if "share_of_ceiling" not in row else f"{row['share_of_ceiling']:.0%} {row['precision']}",
    )


def _below(rows: Sequence[Record]) -> str:
    missed = [f"`{row['name']}`" for row in rows if row["reached"] is False]
    return f"Below what was asked for: {', '.join(missed) or 'none'}."


def _beyond(expenses: Sequence[Record]) -> list[str]:
    lines = [
        (
            f"`{expense['name']}`: {expense['work']}",
            _short(expense["seconds"]),
            _short(expense["processor_seconds"]),
            _megabytes(expense["extra_bytes"]),
            f"{expense['load']:.1f}",
        )
        for expense in expenses
    ]
    total, working = (sum(expense[name] for expense in expenses) for name in ("seconds", "processor_seconds"))
    return [
        "One call of each on a random model of GPT-2 small's shape (12 layers, 12 heads, d_model 768, a vocabulary of "
        "50257, 1024 tokens of context) in one thread, after one on a tiny model. The load is that of the machine, a "
        "mean over the last minute of the call: where it is above the number of cores, the call waited for others, its "
        "seconds are an upper bound, and the processor's are nearer to what an idle machine takes.",
        _table(("call", "seconds", "processor seconds", "peak MB", "load"), lines),
        f"All of it: {total:.0f} s, {working:.0f} s of the processor.",
    ]


def _demo(demo: Record) -> str:
    both = demo["today_training_seconds"] + demo["today_measuring_seconds"]
    return (
        f"The whole command took {demo['seconds']:.0f} s in two processes (at most {demo['target_seconds']} s are "
        f"asked for). The same work with the code of today: {demo['today_training_seconds']:.0f} s of training and "
        f"{demo['today_measuring_seconds']:.0f} s of measuring in one process, extrapolated from {demo['sampled']}; "
        f"split perfectly over two processes {both / 2:.0f} s, {_short(demo['ratio'])} times as long, without drawing. "
        f"Losses after ablations differ by at most {demo['difference']:.0e}."
    )


def _scale(scale: Record) -> list[str]:
    lines = [
        (
            f"{point['varied']} = {point['value']}",
            str(point["n_examples"]),
            _short(point["seconds"]),
            f"{point['seconds_per_head_token'] * 1e9:,.0f}",
            _megabytes(point["extra_bytes"]),
        )
        for point in scale["points"]
    ]
    memory = scale["memory_spread"]
    judged = f"From the fewest to the most examples, time per head and token varies by a factor of {_verdict(scale)}"
    judged += "." if memory is None else f", peak memory by a factor of {memory:.2f}."
    header = ("pattern-preserving ablation", "examples", "seconds", "ns per head and token", "peak MB")
    return [
        "All heads, losses at the random index and two context indices; 2 layers, d_model 256, 8 heads, a vocabulary "
        "of 4096 and 512 tokens but for what is named.",
        _table(header, lines),
        judged,
    ]


def _verdict(scale: Record) -> str:
    within = "within" if scale["time_spread"] <= scale["flat_within"] else "NOT within"
    return f"{scale['time_spread']:.2f}, {within} the {scale['flat_within']:g} asked for"


def _paper_row(row: Record) -> str:
    return (
        f"2 layers, d_model 768, 12 heads, a vocabulary of 65536: {row['n_examples']:,} x 512 tokens, one snapshot, "
        f"{row['seconds']:.1f} s, {row['share_of_ceiling']:.0%} of the card's float32 products, "
        f"{_megabytes(row['extra_bytes'])} MB; 200 snapshots would take {row['hours_for_all_snapshots']:.2f} h, "
        "without reading them."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _megabytes(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / 1e6:,.0f}"


def main() -> None:
    """Take a run's results into the documentation."""
    results = Path(sys.argv[1])
    shutil.copyfile(results, DOCS / "benchmarks.json")
    record: Record = json.loads(results.read_text(encoding="utf8"))
    (DOCS / "benchmarks.md").write_text(page(record), encoding="utf8")


if __name__ == "__main__":
    main()
