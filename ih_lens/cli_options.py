"""The options of `ih-lens` that several commands share or that need more words than a line: their types and help."""

from pathlib import Path
from typing import Annotated

import typer

Workers = Annotated[int, typer.Option(min=1, help="Processes; each uses one thread.")]
DemoSeeds = Annotated[str, typer.Option(help="Seeds, separated by commas; every model is trained once per seed.")]
ConditionSeeds = Annotated[
    str, typer.Option(help="Seeds, separated by commas; every condition is trained once per seed.")
]
Images = Annotated[bool, typer.Option("--images", help="Also write the figures as PNG; needs kaleido and Chrome.")]

TextSource = Annotated[
    str, typer.Argument(help="A text file, a folder, `python-stdlib`, or a Hugging Face dataset's name.")
]

Series = Annotated[str | None, typer.Option(help="Train a series of the paper; `ih-lens series` lists them.")]
OwnPositions = Annotated[str, typer.Option(help="Without --series: shortformer, standard or rotary.")]
Snapshots = Annotated[str, typer.Option(help="every:N, powers:FIRST:LAST, or steps separated by commas.")]
HeldOut = Annotated[
    int | None, typer.Option(help="Examples to keep for measuring; by default all that are set aside, at most 1000.")
]

Runs = Annotated[
    list[str], typer.Argument(help="Run folders, or names of published models, in the order of the columns.")
]
TableExamples = Annotated[
    int | None,
    typer.Option(help="Examples to measure on; by default all that runs held out, 100 of text for a published model."),
]
Revisions = Annotated[
    str | None,
    typer.Option(
        help="Published models: which checkpoints; all, log (doublings), a number of them, steps or labels "
        "separated by commas, or label:step pairs."
    ),
]
TokensPerStep = Annotated[
    int | None, typer.Option(help="Published models: tokens per training step, where the publisher does not say.")
]
PublishedText = Annotated[
    str | None,
    typer.Option(help="Published models: text to measure on, as `ih-lens tokens` takes it; python-stdlib by default."),
]
PublishedPositions = Annotated[
    int | None, typer.Option(help="Published models: tokens per example; at most 512 by default.")
]
PublishedFolder = Annotated[Path, typer.Option(help="Published models: where their records and measurements lie.")]
DiskBudget = Annotated[float, typer.Option(help="Published models: gigabytes of downloaded weights to keep at a time.")]
PublishedDtype = Annotated[str, typer.Option(help="Published models: float32, bfloat16 or float16.")]
Retries = Annotated[int, typer.Option(help="Published models: how often a failed download is tried again.")]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Published models: look up again which weights a label stands for.")
]

ModelName = Annotated[
    str, typer.Argument(help="A name on the Hugging Face hub, a folder in its format, or a snapshot's folder.")
]
Tokenizer = Annotated[str | None, typer.Option(help="Use this tokenizer: a tokenizer.json or a folder with one.")]
PreviousTokenText = Annotated[
    str | None, typer.Option(help="Measure previous-token attention on this text: as `ih-lens tokens` takes it.")
]
Atlas = Annotated[
    str | None,
    typer.Option(help="Compare with the published heads of this model, such as gpt2; auto for the model's own name."),
]
