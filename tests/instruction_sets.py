"""How far numbers lie apart between sets of instructions and numbers of threads: `python -m tests.instruction_sets`.

One machine computes as older ones would, where its libraries can be told to; see docs/reproducing.md.
"""

import io
import os
import subprocess
import sys

import pandas as pd

MACHINES: dict[str, dict[str, str]] = {
    "as it is": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "PyTorch without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "PyTorch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN with SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN with AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL for any CPU": {"MKL_CBWR": "COMPATIBLE"},
    "OpenBLAS for AVX2": {"OPENBLAS_CORETYPE": "Haswell"},
    "all of them old": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}
"""By what is printed, the environment in which libraries compute so."""
CODE = """
import os, sys
import torch
import ih_lens as ih
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
ih.check_reference_numbers(dtype=sys.argv[1], progress=False).to_json(sys.stdout, orient="records", double_precision=15)
"""


def compared(machine: str, dtype: str) -> pd.DataFrame:
    """The result of the check in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **MACHINES[machine]}
    command = [sys.executable, "-c", CODE, dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return pd.read_json(io.StringIO(done.stdout), orient="records").assign(machine=machine)


def main() -> None:
    dtype = sys.argv[1] if len(sys.argv) > 1 else "float32"
    rows = pd.concat([compared(machine, dtype) for machine in MACHINES], ignore_index=True)
    share = (rows.difference / rows.tolerance.where(rows.tolerance > 0, 1.0)).rename("share of the tolerance")
    worst = rows.assign(share=share).sort_values("share", ascending=False).drop_duplicates("measure")
    print(worst[["measure", "difference", "tolerance", "share", "machine", "model"]].to_string(index=False))
    sys.exit(int(not rows.within.all()))


if __name__ == "__main__":
    main()
