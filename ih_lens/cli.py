"""The command line: `ih-lens demo | tokens | train | table | series`."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from ih_lens.errors import IHLensError, InputError

app = typer.Typer(
    name="ih-lens",
    help="Whether, where and when transformers grow induction heads (Olsson et al. 2022), measured while they train.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Workers = Annotated[int, typer.Option(min=1, help="Processes; each uses one thread.")]


def _say(text: str) -> None:
    typer.echo(text)


def _integers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option}: expected integers separated by commas, such as 1,2; got {text!r}") from error


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")] = Path("ih_lens_demo"),
    seeds: Annotated[
        str, typer.Option(help="Seeds, separated by commas; every model is trained once per seed.")
    ] = "0,1",
    workers: Workers = 2,
) -> None:
    """Train seven small models on an embedded task and write their Model Analysis Table.

    Needs no download and a few minutes on two cores; asked again, it continues or just draws.

    Example: `ih-lens demo --out ih_lens_demo --seeds 0`
    """
    from ih_lens.demo import run_demo

    for line in run_demo(out, seeds=_integers(seeds, "--seeds"), workers=workers):
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
    source: Annotated[str, typer.Argument(help="A text file, a folder, `python-stdlib`, or `hf:NAME` of a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for the token file and its tokenizer.")],
    vocab_size: Annotated[int | None, typer.Option(help="Train a byte-level BPE of this size on the text.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this tokenizer.json instead.")] = None,
    separator: Annotated[str, typer.Option(help="Line that separates documents inside a file.")] = "<|endoftext|>",
) -> None:
    """Turn text into one memory-mapped token file that models are trained on.

    Example: `ih-lens tokens python-stdlib --out tokens/stdlib --vocab-size 1024`
    """
    from ih_lens.data.tokenize_text import tokenize_text

    made = tokenize_text(source, out, vocab_size=vocab_size, tokenizer=tokenizer, separator=separator)
    _say(f"{made.n_tokens:,} tokens of a vocabulary of {made.d_vocab:,} in {out}")


def main() -> None:
    """Entry point: every error is one message on standard error and an exit status, never a traceback."""
    try:
        app(prog_name="ih-lens", standalone_mode=False)
    except typer.Exit as finished:
        sys.exit(finished.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; what was finished is kept, and the same command continues", 130)
    except IHLensError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(
            f"{error.strerror or error}: {error.filename or ''}. Check the path, its permissions and the space left", 2
        )
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:
            _fail(f"{usage()}. `ih-lens --help` shows how it is called", 2)
        if os.environ.get("IH_LENS_TRACEBACK"):
            traceback.print_exc()
        _fail(f"unexpected {type(error).__name__}: {error}. IH_LENS_TRACEBACK=1 shows where; please report it", 70)


def _fail(message: str, status: int) -> None:
    typer.echo(f"ih-lens: {message}", err=True)
    sys.exit(status)
