"""`make soak`, or `python -m tests.soak`: days of work until the time is up, and what was wrong with them."""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is loaded
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> int:
    """Soak as the command line asks; 1 if anything was wrong."""
    from tests.soak.place import enter_namespace
    from tests.soak.plan import Plan

    standard = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--snapshots", type=int, default=standard.n_snapshots, help="of every model")
    parser.add_argument("--models", type=int, default=standard.n_models, help="of 1, 2, 3, ... layers")
    parser.add_argument("--workers", type=int, default=standard.workers, help="processes of every command")
    parser.add_argument("--seed", type=int, default=standard.seed, help="of the disturbances")
    parser.add_argument("--minutes", type=float, default=standard.minutes, help="days begin until then; 0 makes one")
    parser.add_argument("--pace", type=int, default=standard.pace, help="work between two disturbances, on average")
    parser.add_argument("--cold-every", type=int, default=standard.cold_every, help="commands in a fresh Python")
    parser.add_argument("--out", type=Path, default=Path("ih_lens_soak"), help="folder; replaced if it is there")
    asked = parser.parse_args()
    enter_namespace(sys.argv[1:])

    from tests.soak.soak import soak

    plan = Plan(
        n_snapshots=asked.snapshots,
        n_models=asked.models,
        workers=asked.workers,
        seed=asked.seed,
        minutes=asked.minutes,
        pace=asked.pace,
        cold_every=asked.cold_every,
    )
    shutil.rmtree(asked.out, ignore_errors=True)
    return soak(plan, asked.out.resolve(), lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main())
