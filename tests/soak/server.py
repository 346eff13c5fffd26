"""Runs commands of `ih-lens` in copies of one process that has imported everything; `python -m tests.soak.server`.

Lines of JSON come in: `{"run": [words], "log": file, "cold": bool, "environment": {}}` answers with the number of the
process, which leads a session of its own; `{"poll": number}` with its exit status, or null while it runs.
"""

import gc
import importlib
import json
import os
import signal
import sys
import warnings
from typing import Any

_IMPORTED_BY_COMMANDS = (
    "ih_lens.report.joint_ablation",
    "ih_lens.report.table_command",
    "ih_lens.training.command",
    "ih_lens.training.series",
)


def main() -> None:
    """Serve until the input ends; a copy leaves the loop instead, and ends as any command does."""
    _import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(asked)
            break
        print(pid, flush=True)
    else:
        return
    command()


def command() -> None:
    """`ih-lens` with every measurement noted."""
    from ih_lens import cli
    from tests.soak.watched import watch

    watch()
    cli.main()


def _import_everything() -> None:
    import torch
    from joblib.externals.loky.backend import context

    for module in _IMPORTED_BY_COMMANDS:
        importlib.import_module(module)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*fork.*")
    context.set_start_method("fork")  # so that workers are copies as well
    gc.freeze()  # or the copies' collections would write to all that they share


def _become(asked: dict[str, Any]) -> None:
    """Be the process of a command: a session of its own, signals as a terminal's, what it says in a file."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(asked["environment"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.argv = ["ih-lens", *asked["run"]]
    if asked["cold"]:
        code = "from tests.soak.server import command; command()"
        os.execv(sys.executable, [sys.executable, "-c", code, *asked["run"]])


if __name__ == "__main__":
    main()
