"""Targets: the files that runs, measurements and results leave."""

import tempfile
from functools import cache
from pathlib import Path

import torch

import ih_lens as ih
from tests.fuzz.targets import Target


@cache
def scratch() -> Path:
    """A folder for what is read; it goes away with the process."""
    holder = tempfile.TemporaryDirectory(prefix="ih_lens-fuzz-")
    _holders.append(holder)
    return Path(holder.name)


_holders: list[tempfile.TemporaryDirectory[str]] = []


def _eval_set(content: bytes) -> object:
    path = scratch() / "evals.safetensors"
    path.write_bytes(content)
    return ih.EvalSet.load(path)


def _eval_set_seeds() -> list[bytes]:
    evals = ih.EvalSet.from_tokens(torch.tensor([[5, 6, 7], [1, 2, 3]]), description={"source": "here"})
    return [evals.save(scratch() / "written.safetensors").read_bytes()]


FILES: dict[str, Target] = {"eval_set": Target(_eval_set, _eval_set_seeds, "safetensors")}
