"""Measures a table on a joblib backend while a worker of it is killed; run by test_backends in a process of its own.

dask and ray start threads, sockets and processes that a test process should not carry on with.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

SETTINGS = {"n_examples": 12, "threads": 2}
"""The workers' environment says one thread, so that two come from here."""

# every process that dask starts imports this module, and is replaced for good if it takes too long: no more up here


@contextmanager
def on_loky() -> Iterator[None]:
    import joblib

    with joblib.parallel_config("loky", n_jobs=2):
        yield


@contextmanager
def on_dask() -> Iterator[None]:
    import dask
    import joblib
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "2m"}),
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@contextmanager
def on_ray() -> Iterator[None]:
    import joblib
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    register_ray()
    try:
        with joblib.parallel_config("ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()


def watched(measure: Any, notes: Path, name: str, *args: Any, **options: Any) -> Any:
    """Note who measures and with how many threads; the third ablation that begins takes its process along."""
    import torch

    with (notes / name).open("a") as file:
        file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
    if name == "ablation" and len((notes / name).read_text().splitlines()) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(*args, **options)


def main(backend: str, folder: Path, runs: list[str]) -> None:
    from ih_lens.report.measuring import MEASUREMENTS
    from ih_lens.report.settings import TableSettings
    from ih_lens.report.table import ModelAnalysisTable
    from tests.dying_tasks import fail, kill, outcome

    notes = folder / "notes"
    notes.mkdir(parents=True)
    for name, recipe in MEASUREMENTS.items():
        MEASUREMENTS[name] = replace(recipe, measure=partial(watched, recipe.measure, notes, name))
    with {"loky": on_loky, "dask": on_dask, "ray": on_ray}[backend]():
        os.chdir(folder)  # where workers that are there already are not
        relative = [os.path.relpath(run) for run in runs]
        table = ModelAnalysisTable.from_runs(
            relative, settings=TableSettings(**SETTINGS), store="store", progress=False
        )
        said = {
            "collection": table.record["collection"],
            "failing": outcome(folder / "failing", fail),
        }
        if backend != "ray":  # starts workers anew as loky does, and slowly
            said["deadly"] = outcome(folder / "deadly", partial(kill, times=100))
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
