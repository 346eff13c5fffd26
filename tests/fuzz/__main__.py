"""Fuzz the readers of files for a given time: `python -m tests.fuzz --seconds 60 snapshot_record eval_set`.

Every target runs in a process of its own under atheris, guided by coverage. What goes wrong is written into the folder
of findings as the bytes that did it, and `python -m tests.fuzz --reproduce FILE NAME` reads them once more.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import all_targets


def main() -> int:
    """Returns how many targets had a finding."""
    targets = all_targets()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="NAME", help=f"all by default: {', '.join(targets)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder of what went wrong")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="read this content once, as the one NAME does")
    asked = parser.parse_args()
    unknown = sorted(set(asked.targets) - set(targets))
    if unknown or (asked.reproduce and len(asked.targets) != 1):
        parser.error(f"expected names of targets, got {unknown or asked.targets}; there are {', '.join(targets)}")
    if asked.reproduce:
        read = targets[asked.targets[0]].accepts(asked.reproduce.read_bytes())
        print("was read" if read else "was refused as it should be")
        return 0
    return sum(_has_finding(name, asked.seconds, asked.findings) for name in asked.targets or targets)


def _has_finding(name: str, seconds: int, findings: Path) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.under_atheris", name, str(seconds), str(findings)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    counts = [
        line.split()[-1] for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")
    ]
    print(f"{name}: {counts[0] if counts else 'an unknown number of'} inputs", flush=True)
    if done.returncode:
        # after libFuzzer's report come the complaints of an interpreter that it ended
        told = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("INFO: "))
        print(f"{done.stdout[-3000:]}\n{told[:3000]}")
        print(f"{name}: FINDING; python -m tests.fuzz --reproduce {findings}/{name}-... {name}", flush=True)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
