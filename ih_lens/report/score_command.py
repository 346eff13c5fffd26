"""The body of `ih-lens score`: load a model, score its heads, write the scores, print the heads by type."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ih_lens.analysis.head_atlas import AtlasComparison, compare_to_atlas, known_heads
from ih_lens.analysis.head_types import HEAD_TYPES, head_types
from ih_lens.atomic import write_bytes
from ih_lens.data.eval_set import EvalSet
from ih_lens.data.text_examples import text_examples
from ih_lens.errors import InputError
from ih_lens.measure.provenance import provenance
from ih_lens.measure.score_heads import score_heads
from ih_lens.models.loading import load_model
from ih_lens.results import HeadScores
from ih_lens.types import ModelLike
from ih_lens.validate import one_of

DTYPES = ("float32", "bfloat16", "float16")
TITLES = {
    "induction": "Induction heads (prefix matching, copying above 0)",
    "anti_copying_prefix_matching": "Anti-copying prefix-matching heads (prefix matching, copying below 0)",
    "previous_token": "Previous-token heads",
    "other": "Other heads, by prefix matching",
}
SORTED_BY = {"previous_token": "previous_token"}
"""What a type's heads are sorted by; the others by prefix matching."""
COLUMNS = {
    "prefix_matching": "prefix matching",
    "copying": "copying",
    "previous_token": "previous token",
    "ov_copying_eigenvalues": "OV eigenvalues",
    "qk_eigenvalue_trace": "QK trace",
}
MAX_LISTED = {"other": 5}
"""Heads that are listed per type, the other types' first 20; the files have all."""


@dataclass(frozen=True)
class ScoreRequest:
    """What was asked for on the command line; see `ih-lens score --help`."""

    model: str
    revision: str | None = None
    checkpoint: int | None = None
    device: str | None = None
    dtype: str | None = None
    tokenizer: str | None = None
    text: str | None = None
    n_examples: int = 10
    length: int = 25
    repeats: int = 4
    seed: int = 0
    bos: str = "auto"
    atlas: str | None = None
    out: Path | None = None


def score_model(asked: ScoreRequest) -> Iterator[str]:
    """Do what was asked; what is said comes line by line, as soon as it is known.

    Raises:
        IHLensError: whatever loading and scoring raise, and InputError for a model that the atlas does not have.
    """
    bos = _start(asked.bos)
    if asked.out is not None and asked.out.is_file():
        raise InputError(f"--out: expected a folder for scores.csv and scores.json, {asked.out} is a file")
    if asked.atlas not in (None, "auto"):
        known_heads(asked.atlas)  # an unknown name is said before anything is loaded
    dtype = None if asked.dtype is None else getattr(torch, one_of("--dtype", asked.dtype, DTYPES))
    settings = {name: getattr(asked, name) for name in ("device", "revision", "checkpoint", "tokenizer")}
    model = load_model(
        asked.model, **{name: value for name, value in settings.items() if value is not None}, dtype=dtype
    )
    origin = provenance(model)
    if asked.atlas == "auto":
        known_heads(str(origin["model"]), origin.get("revision"))
    yield _model_line(model, origin)
    scores = score_heads(
        model,
        seed=asked.seed,
        text=_text(model, asked, bos),
        n_examples=asked.n_examples,
        length=asked.length,
        repeats=asked.repeats,
        bos=bos,
    )
    types = head_types(scores)
    if asked.out is not None:
        yield f"All scores: {_write(asked.out, scores, types)}"
    yield from report(scores, types)
    if asked.atlas is not None:
        yield from _agreement(compare_to_atlas(scores, None if asked.atlas == "auto" else asked.atlas))


def report(scores: HeadScores, types: xr.DataArray) -> Iterator[str]:
    """The heads by type, each with its scores, and what is not defined and why."""
    yield _tokens_line(scores)
    counts = [f"{int((types == kind).sum())} {kind.replace('_', ' ')}" for kind in HEAD_TYPES]
    yield f"{types.size} heads: {', '.join(counts)}"
    columns = [name for name in COLUMNS if name in scores.names]
    for kind, title in TITLES.items():
        rows = _rows(scores, types, kind)
        if rows:
            yield ""
            yield f"{title}:"
            n_listed = MAX_LISTED.get(kind, 20)
            yield from _table(rows[:n_listed], columns, scores)
            if len(rows) > n_listed:
                yield f"  and {len(rows) - n_listed} more"
    for name in scores.names:
        yield from _undefined(scores[name])


def _undefined(values: xr.DataArray) -> Iterator[str]:
    """For how many heads a measure is not defined, and why; layer 0 has no trace by definition."""
    missing, reason = int(np.isnan(values.to_numpy()).sum()), values.attrs.get("undefined")
    if missing and (reason is not None or values.name != "qk_eigenvalue_trace"):
        heads = "" if missing == values.size else f" for {missing} of {values.size} heads"
        yield f"Not defined{heads}: {values.name}{'' if reason is None else f': {reason}'}"


def _start(bos: str) -> int | str | None:
    """The start token as `score_heads` takes it."""
    if bos in ("auto", "none"):
        return None if bos == "none" else bos
    if not bos.isdecimal():
        raise InputError(f"--bos: expected auto, none or a token's id, got {bos!r}")
    return int(bos)


def _text(model: ModelLike, asked: ScoreRequest, bos: int | str | None) -> EvalSet | None:
    """The text to measure previous-token attention on."""
    if asked.text is None:
        return None
    return text_examples(model, asked.text, n_examples=asked.n_examples, bos=bos, seed=asked.seed)


def _model_line(model: ModelLike, origin: dict[str, Any]) -> str:
    cfg = model.cfg
    known = {name: origin.get(name) for name in ("source", "revision", "commit")}
    told = "".join(f", {name} {value}" for name, value in known.items() if value)
    return f"{origin['model']}: {cfg.n_layers} layers of {cfg.n_heads} heads, {origin['dtype']}{told}"


def _tokens_line(scores: HeadScores) -> str:
    """What the heads were scored on."""
    attrs = scores["prefix_matching"].attrs
    start = f"start token {attrs['bos']}" if attrs["bos"] != "none" else "no start token"
    if "bos_text" in attrs:
        start += f" {attrs['bos_text']!r}"
    if "bos_chosen" in attrs:
        start += f" ({attrs['bos_chosen']})"
    asked = f" ({attrs['length_asked']} asked)" if "length_asked" in attrs else ""
    previous = scores["previous_token"].attrs["measured_on"]
    return (
        f"Scored on {attrs['n_examples']} examples of {attrs['length']}{asked} random tokens x {attrs['repeats']}, "
        f"seed {scores.attrs['seed']}; {start}; previous token on {previous}"
    )


def _rows(scores: HeadScores, types: xr.DataArray, kind: str) -> list[tuple[str, dict[str, float]]]:
    """The heads of a type with their scores, best first."""
    of_type = types.to_numpy() == kind
    ranked = scores.top(SORTED_BY.get(kind, "prefix_matching"), types.size)
    return [(str(head), scores.head(head)) for head, _ in ranked if of_type[head]]


def _table(rows: list[tuple[str, dict[str, float]]], columns: list[str], scores: HeadScores) -> Iterator[str]:
    """Columns of text, each as wide as its widest entry."""
    lines = [["head", *(COLUMNS[name] for name in columns)]]
    lines += [[head, *(_number(measured[name], scores[name].attrs) for name in columns)] for head, measured in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for head, *numbers in lines:
        cells = [
            head.ljust(widths[0]),
            *(number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)),
        ]
        yield "  " + "  ".join(cells)


def _number(value: float, attrs: dict[str, Any]) -> str:
    """Three decimals for what has a range, else the size of the number."""
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if "range" in attrs else f"{value:.3g}"


def _write(out: Path, scores: HeadScores, types: xr.DataArray) -> str:
    """One CSV for spreadsheets, and a file with definitions and provenance that `HeadScores.load` reads."""
    table = scores.to_dataframe()
    for name in scores.names:
        stderr = scores.stderr(name)
        if "undefined" not in stderr.attrs:  # measures of weights have no spread over examples
            table[f"{name}_stderr"] = stderr.to_numpy()[table["layer"], table["head"]]
    table["type"] = types.to_numpy()[table["layer"], table["head"]]
    write_bytes(out / "scores.csv", table.to_csv(index=False).encode())
    scores.save(out / "scores.json")
    return f"{out / 'scores.csv'}, and with definitions and provenance {out / 'scores.json'}"


def _agreement(comparison: AtlasComparison) -> Iterator[str]:
    yield ""
    yield "Published heads:"
    yield from str(comparison).splitlines()
    yield "Sources:"
    yield from sorted({f"  {entry.source}" for entry in comparison.known})
