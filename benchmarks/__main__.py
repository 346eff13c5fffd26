"""`make bench`, or `python -m benchmarks`: measure, print the tables, keep them as JSON and Markdown."""

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is loaded; worker processes inherit it
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.console import Console


def main() -> int:
    """Run what the command line asks for; 1 if something failed or two sides disagree."""
    warnings.filterwarnings("ignore")
    from benchmarks.plan import Plan
    from benchmarks.report import joined, overview, write
    from benchmarks.run import names, run, wrong

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these rows; --list shows them")
    parser.add_argument("--list", action="store_true", help="show the names of the rows")
    parser.add_argument("--quick", action="store_true", help="one round of each, without memory")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path("ih_lens_bench"), help="folder for results.json and .md")
    parser.add_argument("--add", action="store_true", help="keep what --out holds of rows that are not run now")
    asked = parser.parse_args()

    plan = Plan(quick=asked.quick, device=asked.device)
    console = Console(width=None if sys.stdout.isatty() else 120)
    known = names(plan)
    if asked.list or set(asked.only) - set(known):
        console.print("\n".join(known), highlight=False)
        return 0 if asked.list else 2
    command = f'make bench ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make bench"
    with console.status("") as status:
        record = run(plan, asked.only, command, lambda text: console.print(text, highlight=False), status.update)
    if asked.add:
        record = joined(record, asked.out, known)
    write(record, asked.out)
    console.print(overview(record))
    console.print(f"All of it: {asked.out / 'results.md'}")
    return 1 if wrong(record) else 0


if __name__ == "__main__":
    sys.exit(main())
