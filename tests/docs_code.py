"""The code of the documentation, run as a reader would: page by page, from top to bottom, in a folder of its own.

Every ```python block of a page runs in one namespace, with warnings as errors and without network: names on the Hugging
Face hub are served by a stand-in (`tests/docs_names.py`), and so are the objects that a page takes as given, such as
`model` or `tokens`. What would take minutes is made shorter by replacements, each of which must occur in the page.
Every `ih-lens` line of a ```bash block is parsed by the real command line, and those named here are run.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.io
import pytest
import typer

import ih_lens as ih
from ih_lens.cli import app
from ih_lens.measure.ablation import ABLATIONS
from ih_lens.measure.ablation.replacements import REPLACEMENTS
from ih_lens.models.loading import LOADERS
from tests.docs_names import FILES, Prepared

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_DOCTEST = re.compile(r"^>>> ", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """How a page is run.

    Attributes:
        shorter: what is replaced in its code so that it takes seconds.
        files: of `FILES`, laid into the folder first: what the page takes as being there.
        given: whether the page may use prepared names; a page that claims to run as it stands may not.
    """

    shorter: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    given: bool = True


_FEW_BEHAVIOURS = {
    "behaviour_table(gpt2)": "behaviour_table(gpt2, behaviours=[ih.LiteralCopying(n_pos=64, n_examples=5), "
    'ih.Translation(pairs=[("a b", "c d"), ("e f", "g h")]), ih.PatternMatching(n_lines=8, n_examples=2)])'
}
"""The same on few and short texts."""

PAGES: dict[str, Page] = {
    "README.md": Page({', kind="pattern_preserving")': ', kind="pattern_preserving", heads=["L5H5"])'}),
    "docs/index.md": Page(
        {"n_steps=800": "n_steps=8", "every(20)": "every(4), n_held_out=16", "d_model=64": "d_model=16"}, given=False
    ),
    "docs/tutorial.md": Page(
        {"n_steps=600": "n_steps=8", "every(20)": "every(4), n_held_out=32", "d_model=64": "d_model=16"}, given=False
    ),
    "docs/paper.md": Page(
        {
            "n_steps=600": "n_steps=16",
            "every(15)": "every(4)",
            '"d_model": 64': '"d_model": 16',
            "n_held_out=512": "n_held_out=16",
            **_FEW_BEHAVIOURS,
        },
        given=False,
    ),
    "docs/definitions.md": Page(files=("runs/2L",), given=False),
    "docs/mechanism.md": Page(files=("runs/2L",), given=False),
    "docs/figures.md": Page(
        {
            "n_steps=600": "n_steps=16",
            "every(15)": "every(8)",
            '"d_model": 64': '"d_model": 16',
            "n_held_out=512": "n_held_out=12",
            "n_examples=100, seed": "n_examples=4, seed",
            "n_steps=30,": "n_steps=2, n_held_out=2,",
            "n_labels=(5, 10), n_classes=(50, 200)": "n_labels=(5,), n_classes=(50,)",
            "seeds=(0, 1)": "seeds=(0,)",
            "window=20": "window=3",
            # so short a training has no phase change, and this row no values
            'table["ablation_before_and_after"]': 'table["ablation_in_context_learning"]',
            **_FEW_BEHAVIOURS,
        },
        given=False,
    ),
    "docs/clamping.md": Page(
        {
            "n_steps=700": "n_steps=12",
            "every(100)": "every(6)",
            "(0, 1, 2), workers=2": "(0, 1)",
            "d_model=64": "d_model=16",
            "window=20": "window=3",
        },
        given=False,
    ),
    "docs/open-questions.md": Page(
        {
            "demo_training(0)": "ih.TrainConfig(n_steps=8, batch_size=8, lr=3e-3, snapshots=ih.every(1), n_held_out=9)",
            '"d_model": 64': '"d_model": 16',
            "n_examples=200": "n_examples=4",
            '"n_new": 36': '"n_new": 6',
        },
        given=False,
    ),
    "docs/uncertainty.md": Page(
        {"demo_training(0)": "ih.TrainConfig(n_steps=4, batch_size=8, lr=3e-3, n_held_out=4)"}, given=False
    ),
    "docs/behaviours.md": Page(
        {
            **_FEW_BEHAVIOURS,
            "translations=pairs,": 'translations=pairs, behaviours=["literal_copying", "translation"],',
            "n_pos=128": "n_pos=64, n_examples=2",
            "n_lines=16": "n_lines=8, n_examples=2",
        }
    ),
    "docs/your-model.md": Page({', device="cuda"': ""}),
    "docs/your-data.md": Page({"n_examples=100": "n_examples=4"}, files=("books",)),
    "docs/published-checkpoints.md": Page(
        {"n_examples=100": "n_examples=4, n_pos=64"}, files=("runs/2L of pythia's tokens",)
    ),
    "docs/scaling.md": Page(
        {
            'Client("tcp://127.0.0.1:8786")': "Client(processes=False, n_workers=1, dashboard_address=None)",
        },
        files=("runs/1L", "runs/2L"),
    ),
}
"""The pages that need something; every other page runs unchanged, with prepared names."""

NOT_RUN: dict[str, str] = {
    "ray.init(address": "needs a cluster; tests/report/test_backends.py runs a table on one",
}
"""Blocks that are compiled only: something that occurs in them, and why."""

REGISTRIES: list[dict[str, Any]] = [ih.EVALUATORS, ih.CLAMPS, ABLATIONS, REPLACEMENTS, LOADERS]
"""Tables of the library that pages about extending it add to."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, its language, its first line in the page, and its text."""

    page: str
    language: str
    line: int
    text: str


def pages() -> list[str]:
    """Every page of the documentation and the README, as paths in the repository."""
    return sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page: str, language: str) -> list[Block]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf8")
    found = []
    for match in _FENCE.finditer(text):
        if match[2] == language:
            lines = (line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
            found.append(Block(page, language, text[: match.start(3)].count("\n") + 1, "".join(lines)))
    return found


def run_page(page: str, folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run all Python of a page, and give the names that it made."""
    how = PAGES.get(page, Page())
    code = blocks(page, "python")
    for usual in how.shorter:
        assert any(usual in block.text for block in code), f"{page} no longer has {usual!r}"
    monkeypatch.chdir(folder)
    for name in how.files:
        FILES[name](prepared, folder / name.partition(" of ")[0])
    monkeypatch.setattr(plotly.io, "show", lambda figure, *_, **__: figure.to_json())
    namespace: dict[str, Any] = {"__name__": Path(page).stem.replace("-", "_")}
    with _registries_kept():
        for block in code:
            _run(block, how, namespace, prepared if how.given else None)
    return namespace


@contextlib.contextmanager
def _registries_kept() -> Generator[None]:
    """What a page adds to a table of the library is taken out again."""
    before = [dict(registry) for registry in REGISTRIES]
    try:
        yield
    finally:
        for registry, content in zip(REGISTRIES, before, strict=True):
            registry.clear()
            registry.update(content)


def _run(block: Block, how: Page, namespace: dict[str, Any], prepared: Prepared | None) -> None:
    text = block.text
    assert not _DOCTEST.search(text), f"{block.page}:{block.line}: write code without prompts, and results as comments"
    for usual, short in how.shorter.items():
        text = text.replace(usual, short)
    code = compile("\n" * (block.line - 1) + text, str(ROOT / block.page), "exec")
    if any(marker in text for marker in NOT_RUN):
        return
    if prepared is not None:
        prepared.provide(code, namespace)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, namespace)


def command_lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, as words, without comments and without the folder of the program."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield [words[0].rsplit("/", 1)[-1], *words[1:]]


def check_command(words: list[str]) -> None:
    """Parse an `ih-lens` command as the program does, without running it."""
    group: Any = typer.main.get_command(app)
    assert words[0] == "ih-lens"
    if words[1:] in (["--help"], ["--version"]):
        return
    command = group.commands[words[1]]
    command.make_context(f"ih-lens {words[1]}", words[2:])
