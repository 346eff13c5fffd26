"""The body of `ih-lens table`: runs and published checkpoints in, a page and its numbers out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ih_lens.data.eval_set import EvalSet
from ih_lens.data.text_examples import text_examples
from ih_lens.errors import InputError
from ih_lens.models.checkpoint_choice import Revisions
from ih_lens.models.checkpoints import repository_of
from ih_lens.models.published import PublishedRun, published_run
from ih_lens.models.run_protocols import RunLike
from ih_lens.report.columns import open_any
from ih_lens.report.findings import findings
from ih_lens.report.settings import TableSettings
from ih_lens.report.summary import tokens_text
from ih_lens.report.table import ModelAnalysisTable
from ih_lens.validate import at_least, one_of

DTYPES = ("float32", "bfloat16", "float16")
_N_TEXT_EXAMPLES = 100
_MANY = 5


@dataclass(frozen=True)
class TableRequest:
    """What was asked for on the command line; see `ih-lens table --help`."""

    runs: Sequence[str]
    settings: TableSettings
    out: Path
    data: Path | None
    title: str
    workers: int
    revisions: str | None
    tokens_per_step: int | None
    text: str | None
    n_pos: int | None
    folder: Path
    disk_budget_gb: float
    dtype: str
    retries: int
    refresh: bool


def make_table(asked: TableRequest) -> Iterator[str]:
    """Do what was asked; what is said comes line by line, as soon as it is known.

    Raises:
        IHLensError: whatever opening, measuring and writing raise.
    """
    _check_out(asked.out, asked.data)
    runs = [_run(name, asked) for name in asked.runs]
    settings, evals = asked.settings, None
    models = [run for run in runs if isinstance(run, PublishedRun)]
    if models:
        n_examples = settings.n_examples or _N_TEXT_EXAMPLES
        source = asked.text or "python-stdlib"
        evals = text_examples(models[0], source, n_examples=n_examples, n_pos=asked.n_pos, seed=settings.seed)
        settings = replace(settings, n_examples=None)
        for run in models:
            yield _cost(run, evals, settings, source)
    elif asked.text is not None or asked.n_pos is not None:
        raise InputError("--text and --n-pos are for published models; runs keep examples that they held out")
    table = ModelAnalysisTable.from_runs(runs, evals=evals, settings=settings, workers=asked.workers)
    yield from findings(table)
    yield f"The table: {table.to_html(asked.out, title=asked.title)}"
    if asked.data is not None:
        yield f"Its numbers: {table.save(asked.data)}"
    for model, missing in table.missing.items():
        yield _missing(model, missing)


def parse_revisions(text: str) -> Revisions:
    """What `--revisions` says.

    Raises:
        InputError: if it is none of the forms.

    Examples:
        >>> parse_revisions("log"), parse_revisions("20"), parse_revisions("1,2,step4"), parse_revisions("ckpt-a:100")
        ('log', 20, ['1', '2', 'step4'], {'ckpt-a': 100})
    """
    if text in ("all", "log"):
        return text
    if text.isdigit():
        return int(text)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [re.fullmatch(r"(.+):(\d+)", part) for part in parts]
    if parts and all(pairs):
        return {pair[1]: int(pair[2]) for pair in pairs if pair is not None}
    if not parts or any(pairs):
        raise InputError(
            f"--revisions: expected all, log, a number of checkpoints, steps or labels separated by commas (1,2,4), or "
            f"label:step pairs (a:100,b:200) for a repository of one's own; got {text!r}"
        )
    return parts


def _check_out(out: Path, data: Path | None) -> None:
    """Refuse before anything is measured what could not be written after it, or would replace something else."""
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise InputError(f"--out: expected the name of a page that ends in .html, got {str(out)!r}")
    if data is not None and data.is_file():
        raise InputError(f"--data: expected a folder to write, {data} is a file")


def _run(name: str, asked: TableRequest) -> RunLike:
    """A run folder, or a published model."""
    if Path(name).exists():
        return open_any(name)
    if asked.revisions is None:
        raise InputError(
            f"{name} is no folder; give what training got as --out, or, for the published checkpoints of a model on "
            "the hub, say which: --revisions log"
        )
    return published_run(
        name,
        revisions=parse_revisions(asked.revisions),
        folder=asked.folder / repository_of(name),
        dtype=getattr(torch, one_of("--dtype", asked.dtype, DTYPES)),
        tokens_per_step=asked.tokens_per_step,
        disk_budget_gb=asked.disk_budget_gb,
        retries=at_least("--retries", asked.retries, 0),
        refresh=asked.refresh,
    )


def _cost(run: PublishedRun, evals: EvalSet, settings: TableSettings, source: str) -> str:
    """What measuring a published model takes, before it begins."""
    n_checkpoints, size = len(run.checkpoints), run.record.n_bytes / 1e9
    first, last = run.checkpoints[0], run.checkpoints[-1]
    n_passes = 1 + run.cfg.n_layers * run.cfg.n_heads * settings.ablate
    return (
        f"{run.repository}: {n_checkpoints} checkpoints, step {first.step:,} to {last.step:,} "
        f"({tokens_text(first.tokens_elapsed)} to {tokens_text(last.tokens_elapsed)} tokens). Each is about {size:.3g} "
        f"GB to download, {n_checkpoints * size:.3g} GB in all less what was measured before, of which "
        f"{run.disk_budget_gb:g} GB are kept at a time. {evals.n_examples} examples of {evals.n_pos} tokens of "
        f"{source} go {n_passes} times through each. Kept in {run.path}"
    )


def _missing(model: str, missing: dict[str, str]) -> str:
    """What the table goes without."""
    named = "; ".join(f"{snapshot}: {reason}" for snapshot, reason in list(missing.items())[:_MANY])
    more = f"; and {len(missing) - _MANY} more" if len(missing) > _MANY else ""
    return f"Missing of {model}, and tried again by the same command: {named}{more}"
