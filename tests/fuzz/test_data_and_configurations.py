"""Tokens, texts and numbers from anywhere that are refused, beside the changed files of tests/fuzz/test_targets.py."""

import os
from pathlib import Path

import pytest

import ih_lens as ih

_TEXT = ["the cat sat on the mat " * 20]
_NO_PATHS = {
    "NUL": "a\0b",
    "too long": "x" * 5000,
    "no such user": "~nobody-of-this-name/x",
    "half a character": "\ud800",
    "empty": "",
}


@pytest.mark.parametrize("given", _NO_PATHS.values(), ids=_NO_PATHS)
def test_what_is_no_path_is_refused(given: str, tmp_path: Path) -> None:
    calls = {
        "source": lambda: ih.tokenize_text(given, tmp_path / "out", vocab_size=257),
        "out": lambda: ih.tokenize_text(_TEXT, given, vocab_size=257),
        "tokenizer": lambda: ih.tokenize_text(_TEXT, tmp_path / "out", tokenizer=given),
        "path": lambda: ih.TokenCorpus(given, 8),
    }
    for parameter, call in calls.items():
        with pytest.raises(ih.InputError, match=f"{parameter}: expected a path"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tokens.bin", "tokenizer.json", "tokens.json"])
def test_links_out_of_a_folder_of_tokens_are_not_followed(name: str, tmp_path: Path) -> None:
    made = ih.tokenize_text(_TEXT, tmp_path / "tokens", vocab_size=257)
    (made.path / name).rename(tmp_path / "elsewhere")
    (made.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ih.DamagedFileError, match="leads out of its folder"):
        ih.TokenCorpus(made.path, 8)


@pytest.mark.parametrize("name", ["tokens.bin", "tokenizer.json", "tokens.json"])
def test_pipes_in_a_folder_are_not_waited_for(name: str, tmp_path: Path) -> None:
    made = ih.tokenize_text(_TEXT, tmp_path / "tokens", vocab_size=257)
    (made.path / name).unlink()
    os.mkfifo(made.path / name)
    with pytest.raises(ih.DamagedFileError):
        ih.TokenCorpus(made.path, 8)


def test_texts_that_are_hard_to_read(tmp_path: Path) -> None:
    odd = {
        "nul": b"a\0b " * 50,
        "byte order mark": b"\xef\xbb\xbfabc " * 50,
        "one line": b"ab " * 100_000,
        "carriage returns": b"a\r\nb\r" * 40,
        "separators": "a\u2028b\u2029\x85\x0b".encode() * 40,
    }
    for name, content in odd.items():
        (tmp_path / name).write_bytes(content)
        made = ih.tokenize_text(tmp_path / name, tmp_path / f"{name} tokens", vocab_size=257)
        assert made.n_tokens > 100, name
    for name, content in {
        "UTF-16": "abc".encode("utf-16"),
        "halves": b"\xed\xa0\x80",
        "binary": bytes(range(256)),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ih.InputError, match="no text in UTF-8"):
            ih.tokenize_text(tmp_path / name, tmp_path / "out", vocab_size=257)
    with pytest.raises(ih.InputError, match=r"text 1 of the list: character 1 is .* half of one"):
        ih.tokenize_text(["a", "b\ud800"], tmp_path / "out", vocab_size=257)
    with pytest.raises(ih.InputError, match="holds no text"):
        ih.tokenize_text([""], tmp_path / "out", vocab_size=257)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def test_sizes_beyond_any_machine_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ih.InputError, match="vocab_size: expected at most"):
        ih.tokenize_text(_TEXT, tmp_path / "out", vocab_size=10**18)
    with pytest.raises(ih.InputError, match=r"snapshots, every 1: .* take them more rarely"):
        ih.every(1).steps(10**18)
    with pytest.raises(ih.InputError, match="temperature: expected a finite number"):
        ih.Temperature("L0H0", temperature=float("nan"))
    with pytest.raises(ih.InputError, match="threshold: expected a finite number"):
        ih.When("loss", "below", float("nan"))
