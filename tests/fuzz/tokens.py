"""Targets: token folders, tokenizers, and text to make them from."""

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path

import ih_lens as ih
from ih_lens.data.file_source import FileSource
from ih_lens.data.token_file import TokenFile
from ih_lens.data.tokenizer import given_tokenizer, start_token_of, vocabulary_size
from ih_lens.models.huggingface_tokenizers import tokenizer_from
from tests.fuzz.files import scratch
from tests.fuzz.targets import Target

_TEXT = ["the cat sat on the mat", "a dog lay on the log, a cat sat by the dog"] * 3


@cache
def _folder() -> Path:
    return ih.tokenize_text(_TEXT, scratch() / "tokens", vocab_size=260).path


def _read_folder(path: Path) -> object:
    """Everything that can be had from a folder of tokens, as training asks for it."""
    corpus = ih.TokenCorpus(path, 4, held_out_every=2)
    held_out = corpus.held_out(1)
    tokens = corpus.examples(0, 1, data_seed=0)
    in_range = all(int(ids.min()) >= 0 and int(ids.max()) < corpus.d_vocab for ids in (tokens, held_out))
    if not in_range or tokens.shape != (1, 4):
        raise AssertionError(f"ids outside the vocabulary of {corpus.d_vocab}: {tokens}, {held_out}")
    return corpus.describe(), corpus.counts, corpus.tokenizer


def _written(name: str, content: bytes) -> Path:
    """The folder with one file replaced, and its hashes made to fit as a forger would."""
    sidecar = json.loads((_folder() / "tokens.json").read_bytes())
    place = scratch() / "forged"
    place.mkdir(exist_ok=True)
    files = {part: (_folder() / part).read_bytes() for part in ("tokens.bin", "tokenizer.json")} | {name: content}
    sidecar |= {"fingerprint": hashlib.sha256(files["tokens.bin"]).hexdigest()}
    sidecar |= {"tokenizer_sha256": hashlib.sha256(files["tokenizer.json"]).hexdigest()}
    for part, written in ({"tokens.json": json.dumps(sidecar).encode()} | files).items():
        (place / part).write_bytes(written)
    return place


def _file(name: str) -> Target:
    return Target(
        lambda content: _read_folder(_written(name, content)),
        lambda: [(_folder() / name).read_bytes()],
        "json" if name.endswith(".json") else "bytes",
    )


def _open(content: bytes) -> object:
    """Without the checks of a corpus; opening alone must find what is wrong with a description."""
    file = TokenFile.open(_written("tokens.json", content))
    return file.tokens().sum(), file.tokenizer()


def _tokenizer(content: bytes) -> object:
    path = scratch() / "tokenizer.json"
    path.write_bytes(content)
    tokenizer = given_tokenizer(path)
    return start_token_of(tokenizer), vocabulary_size(tokenizer)


def _model_tokenizer(content: bytes) -> object:
    path = scratch() / "model_tokenizer.json"
    path.write_bytes(content)
    return tokenizer_from(path)


def _text(name: str, separator: str | None) -> Target:
    def read(content: bytes) -> object:
        path = scratch() / name
        path.write_bytes(content)
        source = FileSource(scratch(), (path,), separator=separator)
        return source.describe(), sum(len(piece.text) for piece in source.pieces())

    lines = "".join(json.dumps({"text": text}) + "\n" for text in _TEXT)
    text = (lines if "jsonl" in name else "\n--\n".join(_TEXT)).encode()
    return Target(read, lambda: [gzip.compress(text) if name.endswith(".gz") else text])


TOKENS: dict[str, Target] = {
    "token_description": Target(_open, lambda: [(_folder() / "tokens.json").read_bytes()], "json"),
    "token_ids": _file("tokens.bin"),
    "token_folder_tokenizer": _file("tokenizer.json"),
    "tokenizer": Target(_tokenizer, lambda: [(_folder() / "tokenizer.json").read_bytes()], "json"),
    "model_tokenizer": Target(_model_tokenizer, lambda: [(_folder() / "tokenizer.json").read_bytes()], "json"),
    "text_file": _text("text.txt", "--"),
    "text_records": _text("text.jsonl", None),
    "packed_text": _text("text.txt.gz", None),
}
