"""Writes the reference numbers, in float64: `python -m tests.reference_numbers`; see docs/reproducing.md."""

import json
import math
import platform
from pathlib import Path

import numpy as np
import torch

import ih_lens
from ih_lens.models.files import library_versions
from ih_lens.reference_check.check import numbers_of
from ih_lens.reference_check.models import REFERENCE_MODELS

FILE = Path(ih_lens.__file__).parent / "reference_check" / "reference_numbers.json"
DIGITS = 13


def reference_numbers() -> dict[str, dict[str, list[float | None]]]:
    """Per model and measure its numbers; null where one is not defined."""
    found = {name: numbers_of(name, device="cpu", dtype=torch.float64) for name in REFERENCE_MODELS}
    return {name: {measure: rounded(values) for measure, values in of.items()} for name, of in found.items()}


def rounded(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else float(f"{value:.{DIGITS}g}") for value in values.tolist()]


def main() -> None:
    made = {
        "made_by": "python -m tests.reference_numbers, in float64",
        "machine": platform.machine(),
        "versions": library_versions(),
    }
    models = ",\n".join(
        f"  {json.dumps(name)}: {{\n{_a_line_each(measures)}\n  }}" for name, measures in reference_numbers().items()
    )
    head = json.dumps(made, indent=1).removesuffix("\n}")
    FILE.write_text(f'{head},\n "numbers": {{\n{models}\n }}\n}}\n', encoding="utf8")


def _a_line_each(measures: dict[str, list[float | None]]) -> str:
    return ",\n".join(f"   {json.dumps(name)}: {json.dumps(values)}" for name, values in measures.items())


if __name__ == "__main__":
    main()
