"""Any words on the command line: an answer, or one clear message and exit status 1 or 2, and nothing half-written."""

import contextlib
import io
import sys
from collections.abc import Generator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
import typer

import ih_lens as ih
from ih_lens import cli
from ih_lens.errors import WorkerError
from tests.models.huggingface_models import save_huggingface

_TEXT = "the cat sat on the mat and a dog lay on the log\n" * 60
_WORDS = [
    "", "-", "--", "-1", "0", "1", "2", "10**9", "1000000000", str(10**30), "1e99", "nan", "inf", "-inf", "0.5", "1,2",
    "1,", ",", "a:1", "every:1", "every:0", "powers:1:99", "auto", "none", "log", "all", "cpu", "cuda:99", "meta",
    "float32", "int8", "gpt2", "no/such/model", "../..", ".", "/dev/null", "/dev/full", "/proc/self/mem", "missing",
    "tokens", "model", "text.txt", "runs", "run", "page.html", "~nobody-of-this-name", "x" * 5000, "a\0b", "\udcff",
    "\u202e\u2028", "naïve 汉", "--help", "--no-such-option", "--out", "--seed", "$(id)", "; ls", "%s%n", "{0}", "<b>",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that commands take."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "text.txt").write_text(_TEXT)
    save_huggingface(folder / "model", "gpt2")
    ih.tokenize_text(folder / "text.txt", folder / "tokens", vocab_size=260)
    config = ih.TrainConfig(n_steps=2, batch_size=2, lr=1e-3, snapshots=ih.every(1), n_held_out=2)
    cfg = ih.attention_only(1, d_model=8, n_heads=2, d_vocab=260, n_ctx=12)
    ih.train(cfg, ih.TokenCorpus(folder / "tokens", 12), config, out=folder / "run")
    return folder


def _stop(*_: Any, **__: Any) -> Any:
    raise WorkerError("the test goes no further")


@contextlib.contextmanager
def _without_work() -> Generator[None]:
    """Everything is checked as ever; training and measuring themselves are left out."""
    names = ["ih_lens.training.series.run_tasks", "ih_lens.report.jobs.run_tasks"]
    names += ["ih_lens.report.score_command.score_heads", "ih_lens.data.dataset_source.DatasetSource.from_name"]
    names += ["ih_lens.demo.train_series", "ih_lens.clamp_demo.run.clamp_cycle"]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch(name, _stop))
        yield


def _call(words: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    out, error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    shown = mock.patch.object(sys, "argv", ["ih-lens", *words])
    with shown, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), _without_work():
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
    out.seek(0)
    return status, out.read(), error.getvalue()


_BEGINNINGS = {
    "tokens": ["text.txt", "--out", "made"],
    "train": ["tokens", "--out", "runs"],
    "table": ["run"],
    "score": ["model"],
    "demo": [],
    "clamp-demo": [],
    "series": [],
    "notebooks": ["copied"],
}


def _drawn(random: Random) -> list[str]:
    """A command with options of its own, in part valid, and words of any kind."""
    commands = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]
    name = random.choice([*_BEGINNINGS, "tokens", "train", "table", "score"])
    options = [option for known in commands[name].params for option in known.opts if option.startswith("--")]
    words = [name, *(_BEGINNINGS[name] if random.random() < 0.7 else [random.choice(_WORDS)])]
    for _ in range(random.randint(0, 3) if options else 0):
        words.append(random.choice(options))
        if random.random() < 0.9:
            words.append(random.choice(_WORDS))
    return words


@pytest.mark.parametrize("seed", range(3))
def test_any_words_end_in_one_clear_message(place: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    kept = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    random, statuses = Random(seed), set[int]()
    for _ in range(25):
        words = _drawn(random)
        status, _, said = _call(words)
        statuses.add(status)
        assert status in (0, 1, 2), (words, said)
        assert "Traceback" not in said
        assert status == 0 or (said.startswith("ih-lens: ") and len(said) < 20_000), (words, said)
    assert statuses >= {0, 2}
    assert not [path for path in place.rglob(".tmp-*") if path.exists()]
    changed = {path for path, content in kept.items() if not path.is_file() or path.read_bytes() != content}
    assert not [path for path in changed if path.parts[len(place.parts)] in ("text.txt", "model", "tokens")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["table", "run", "--out", "text.txt"], "expected the name of a page that ends in .html"),
        (["table", "run", "--out", "run"], "expected the name of a page that ends in .html"),
        (["table", "run", "--data", "text.txt"], "text.txt is a file"),
        (["table", "run", "--device", "-"], "expected a device such as"),
        (["score", "model", "--out", "text.txt"], "text.txt is a file"),
        (["score", ""], "an argument is empty"),
        (["score", "a\0b"], "NUL character"),
        (["score", "x" * 5000], "expected a path"),
        (["tokens", "text.txt", "--out", "text.txt", "--vocab-size", "260"], "is no folder of tokens"),
        (["tokens", "text.txt", "--out", "made", "--vocab-size", str(10**18)], "expected at most 10,000,000"),
        (["train", "tokens", "--out", "runs", "--batch-size", "0"], "--batch-size: expected an integer of at least 1"),
        (["train", "tokens", "--out", "runs", "--seed", str(10**30), "--n-ctx", "12"], "expected a seed below 2**64"),
        (["train", "tokens", "--out", "runs", "--train-tokens", "1e99"], "valid integer"),
        (["train", "tokens", "--out", "runs", "--n-ctx", str(10**30)], "too few for an example"),
    ],
)
def test_wrong_words_change_nothing(place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    status, told, said = _call(words)
    assert (status, told) == (2, "")
    assert says in said
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (AssertionError("Torch not compiled with CUDA enabled"), 2, "give --device cpu"),
        (BaseException("panicked"), 70, "unexpected BaseException: panicked"),
    ],
)
def test_what_a_library_raises_is_one_message(
    error: BaseException, status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    came, told, said = _call(["series"])
    assert (came, told) == (status, "")
    assert says in said
    assert "Traceback" not in said
