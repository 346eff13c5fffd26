"""The command line: `ih-lens demo | clamp-demo | notebooks | tokens | train | table | series | score | check`."""

import io
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ih_lens import cli_options as options
from ih_lens.cli_exit import check_words, end_with, fail
from ih_lens.errors import InputError
from ih_lens.version import __version__

app = typer.Typer(
    name="ih-lens",
    help="Whether, where and when transformers grow induction heads (Olsson et al. 2022), measured while they train.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


_INTERRUPTED = 130


def _say(text: str) -> None:
    typer.echo(text)


def _integers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option}: expected integers separated by commas, such as 1,2; got {text!r}") from error


def _say_version(asked: bool) -> bool:
    if asked:
        _say(f"ih-lens {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and stop.")
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")] = Path("ih_lens_demo"),
    seeds: options.DemoSeeds = "0,1",
    workers: options.Workers = 2,
) -> None:
    """Train seven small models on an embedded task and write their Model Analysis Table.

    Needs no download and a few minutes on two cores; asked again, it continues or just draws.

    Example: `ih-lens demo --out ih_lens_demo --seeds 0`
    """
    from ih_lens.demo import run_demo

    for line in run_demo(out, seeds=_integers(seeds, "--seeds"), workers=workers):
        _say(line)


@app.command("clamp-demo")
def clamp_demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs, the page and its numbers.")] = Path(
        "ih_lens_clamp_demo"
    ),
    seeds: options.ConditionSeeds = "0,1,2",
    workers: options.Workers = 2,
    quick: Annotated[bool, typer.Option("--quick", help="So small that it only shows that it runs.")] = False,
    images: options.Images = False,
) -> None:
    """Train under clamps on two embedded tasks, and show what must be there before an induction head can form.

    Needs no download and about a quarter of an hour on two cores; asked again, it continues or just draws.

    Example: `ih-lens clamp-demo --out ih_lens_clamp_demo --seeds 0`
    """
    from ih_lens.clamp_demo.run import run_clamp_demo
    from ih_lens.clamp_demo.sizes import FULL, QUICK

    chosen = _integers(seeds, "--seeds")
    for line in run_clamp_demo(out, seeds=chosen, workers=workers, sizes=QUICK if quick else FULL, images=images):
        _say(line)


@app.command()
def notebooks(
    folder: Annotated[Path, typer.Argument(help="Where to copy them; made if need be.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace files there that differ, such as notebooks run since.")
    ] = False,
) -> None:
    """Copy the notebooks to a folder, with the script that makes models for them without a network.

    Example: `ih-lens notebooks notebooks`
    """
    from ih_lens.notebooks import copy_notebooks

    for line in copy_notebooks(folder, overwrite=overwrite):
        _say(line)


@app.command()
def series() -> None:
    """List the paper's series of models, which `ih-lens train --series` trains.

    Example: `ih-lens series`
    """
    from ih_lens.models.series import SERIES

    for name, entry in SERIES.items():
        _say(f"{name}: {entry.description}")


@app.command()
def tokens(
    source: options.TextSource,
    out: Annotated[Path, typer.Option(help="Folder for the token file and its tokenizer.")],
    vocab_size: Annotated[int | None, typer.Option(help="Train a byte-level BPE of this size on the text.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this tokenizer.json instead.")] = None,
    separator: Annotated[str | None, typer.Option(help="Line between two documents of a file.")] = "<|endoftext|>",
    max_tokens: Annotated[int | None, typer.Option(help="Stop after so many tokens.")] = None,
) -> None:
    """Turn text into one memory-mapped token file to train on.

    Example: `ih-lens tokens python-stdlib --out tokens/python --vocab-size 1024`
    """
    from ih_lens.data.tokenize_text import tokenize_text

    made = tokenize_text(
        source, out, vocab_size=vocab_size, tokenizer=tokenizer, separator=separator, max_tokens=max_tokens
    )
    _say(f"{made.n_tokens:,} tokens of a vocabulary of {made.d_vocab:,} in {out}")


@app.command()
def train(
    corpus: Annotated[str, typer.Argument(help="`restart-cycle`, or a folder made by `ih-lens tokens`.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; each model gets a folder in it.")],
    series: options.Series = None,
    scale: Annotated[str, typer.Option(help="Size of the series' models: paper, gpu, laptop or tiny.")] = "laptop",
    models: Annotated[str | None, typer.Option(help="Only these models of the series, separated by commas.")] = None,
    n_layers: Annotated[str, typer.Option(help="Without --series: numbers of layers, such as 1,2.")] = "2",
    mlps: Annotated[bool, typer.Option("--mlps", help="Without --series: layers have MLPs.")] = False,
    smeared_keys: Annotated[bool, typer.Option("--smeared-keys", help="Without --series: keys are smeared.")] = False,
    d_model: Annotated[int, typer.Option(help="Without --series: width.")] = 128,
    n_heads: Annotated[int, typer.Option(help="Without --series: heads per layer.")] = 8,
    positions: options.OwnPositions = "shortformer",
    n_ctx: Annotated[int, typer.Option(help="Tokens per example of a token file.")] = 512,
    train_tokens: Annotated[int, typer.Option(help="Tokens to train on.")] = 20_000_000,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate after warm-up.")] = 4e-3,
    warmup_steps: Annotated[int, typer.Option(help="Steps of warm-up.")] = 100,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 0.05,
    snapshots: options.Snapshots = "every:100",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
    data_seed: Annotated[int, typer.Option(help="Seed of the order of examples.")] = 0,
    n_held_out: options.HeldOut = None,
    workers: options.Workers = 1,
) -> None:
    """Train models with snapshots; an interrupted run is continued by the same command.

    Example: `ih-lens train tokens/python --out runs --series smeared_keys --models control_1L,smeared_keys_1L`
    """
    from ih_lens.training import command
    from ih_lens.training.series import train_series

    data = command.corpus(corpus, n_ctx)
    if series is None:
        sizes = {"d_model": d_model, "n_heads": n_heads, "positions": positions}
        specs = command.own_models(_integers(n_layers, "--n-layers"), data, mlps, smeared_keys, sizes)
    else:
        specs = command.models_of_series(series, scale, models, data)
    config = command.config(
        train_tokens,
        data.n_pos,
        snapshots,
        batch_size=batch_size,
        lr=lr,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        precision=precision,
        device=device,
        seed=seed,
        data_seed=data_seed,
        n_held_out=n_held_out,
    )
    _say(f"Training {', '.join(spec.name for spec in specs)}: {config.n_steps:,} steps of {batch_size} x {data.n_pos}.")
    for run in train_series(specs, data, config, out=out, workers=workers):
        _say(f"{run.path}: {len(run.snapshots)} snapshots, last loss {run.losses['loss'].iloc[-1]:.3f} nats per token")


@app.command()
def table(
    runs: options.Runs,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("table.html"),
    data: Annotated[Path | None, typer.Option(help="Also write all numbers into this zarr folder.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Model Analysis Table",
    n_examples: options.TableExamples = None,
    revisions: options.Revisions = None,
    tokens_per_step: options.TokensPerStep = None,
    text: options.PublishedText = None,
    n_pos: options.PublishedPositions = None,
    folder: options.PublishedFolder = Path("published"),
    disk_budget_gb: options.DiskBudget = 20.0,
    dtype: options.PublishedDtype = "float32",
    retries: options.Retries = 4,
    refresh: options.Refresh = False,
    early: Annotated[int | None, typer.Option(help="Early context index of the in-context learning score.")] = None,
    late: Annotated[int | None, typer.Option(help="Late context index.")] = None,
    window: Annotated[int, typer.Option(help="Average losses over so many indices to both sides.")] = 0,
    ablate: Annotated[bool, typer.Option(help="Ablate every head in every snapshot, the costly part.")] = True,
    ablation: Annotated[str, typer.Option(help="pattern_preserving (the paper's) or full.")] = "pattern_preserving",
    seed: Annotated[int, typer.Option(help="Seed of random tokens and of random indices.")] = 0,
    device: Annotated[str, typer.Option(help="Where models run.")] = "cpu",
    workers: options.Workers = 1,
) -> None:
    """Measure runs and write their Model Analysis Table; what was measured before is only drawn.

    The training checkpoints of a published model are downloaded one by one, measured, and dropped again.

    Example: `ih-lens table runs/control_1L runs/smeared_keys_1L --out table.html --workers 2`

    Example: `ih-lens table pythia-70m --revisions log --out pythia.html`
    """
    from ih_lens.report.settings import TableSettings
    from ih_lens.report.table_command import TableRequest, make_table

    settings = TableSettings(
        early=early,
        late=late,
        window=window,
        n_examples=n_examples,
        ablate=ablate,
        ablation=ablation,
        seed=seed,
        device=device,
    )
    request = TableRequest(
        runs=runs,
        settings=settings,
        out=out,
        data=data,
        title=title,
        workers=workers,
        revisions=revisions,
        tokens_per_step=tokens_per_step,
        text=text,
        n_pos=n_pos,
        folder=folder,
        disk_budget_gb=disk_budget_gb,
        dtype=dtype,
        retries=retries,
        refresh=refresh,
    )
    for line in make_table(request):
        _say(line)


@app.command()
def score(
    model: options.ModelName,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Training step, for models with published steps.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda; cpu by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights: float32, bfloat16 or float16.")] = None,
    tokenizer: options.Tokenizer = None,
    text: options.PreviousTokenText = None,
    n_examples: Annotated[int, typer.Option(help="Examples of random tokens, and of text.")] = 10,
    length: Annotated[int, typer.Option(help="Distinct random tokens per example.")] = 25,
    repeats: Annotated[int, typer.Option(help="How often they are repeated, for prefix matching.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the random tokens.")] = 0,
    bos: Annotated[str, typer.Option(help="Start token: auto, none or an id.")] = "auto",
    atlas: options.Atlas = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.csv and scores.json.")] = None,
) -> None:
    """Score every head of a model and print the heads by type, best first.

    Example: `ih-lens score gpt2 --atlas auto --out gpt2_scores`
    """
    from ih_lens.report.score_command import ScoreRequest, score_model

    request = ScoreRequest(
        model=model,
        revision=revision,
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        tokenizer=tokenizer,
        text=text,
        n_examples=n_examples,
        length=length,
        repeats=repeats,
        seed=seed,
        bos=bos,
        atlas=atlas,
        out=out,
    )
    for line in score_model(request):
        _say(line)


@app.command()
def check(
    device: Annotated[str, typer.Option(help="Where the models run.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, or float64 with tolerances that are a millionth.")] = "float32",
) -> None:
    """Measure three small models with every measure, and hold the numbers against the reference numbers.

    Needs no download and some seconds; the exit status is 1 if a number lies outside the tolerance of its measure.

    Example: `ih-lens check`
    """
    from ih_lens.reference_check.check import check_reference_numbers
    from ih_lens.reference_check.command import check_lines

    compared = check_reference_numbers(device=device, dtype=dtype)
    for line in check_lines(compared):
        _say(line)
    if not compared.within.all():
        sys.exit(1)


def main() -> None:
    """Entry point: every error is one message on standard error and an exit status, never a traceback."""
    try:
        check_words(sys.argv[1:])
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what the terminal has no sign for
            sys.stdout.reconfigure(errors="backslashreplace")
        with _ended_by_sigterm():
            status = app(prog_name="ih-lens", standalone_mode=False)
        if status == _INTERRUPTED:  # Control-C, of which typer leaves only this
            raise KeyboardInterrupt
    except typer.Exit as finished:
        sys.exit(finished.exit_code)
    except _Terminated:
        fail("terminated; what was finished is kept, and the same command continues", 143)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted; what was finished is kept, and the same command continues", _INTERRUPTED)
    except BaseException as error:  # what panics in a library written in Rust is no Exception
        end_with(error)


class _Terminated(BaseException):
    """The process is asked to end, as a cluster's scheduler does before it kills."""


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """End as at Control-C, so that workers and temporary files go too."""

    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
