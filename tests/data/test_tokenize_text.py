import errno
import hashlib
import json
import os
import pathlib

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import ih_lens as ih
from ih_lens.data.pieces import pieces_of_text
from ih_lens.data.token_file import TokenFile, write_token_file
from ih_lens.data.tokenizer import train_tokenizer
from ih_lens.errors import DamagedFileError
from ih_lens.models.vocabulary import vocabulary_of_run


def decoded_documents(token_file) -> list[str]:
    ids, found, current = token_file.tokens().tolist(), [], []
    for token in ids:
        if token == token_file.bos:
            found.append(token_file.tokenizer().decode(current))
            current = []
        else:
            current.append(token)
    assert not current
    return found


def test_the_text_comes_back_document_by_document(token_file, text):
    assert token_file.d_vocab == 300
    assert token_file.bos == 0
    assert decoded_documents(token_file) == text


def test_counts_and_fingerprint_are_of_the_ids(token_file):
    ids = np.asarray(token_file.tokens())
    assert ids.dtype == np.uint16
    assert token_file.n_tokens == len(ids) == sum(token_file.counts)
    assert token_file.counts == tuple(np.bincount(ids, minlength=300))
    assert token_file.fingerprint == hashlib.sha256(ids.tobytes()).hexdigest()
    assert token_file.counts[0] == 60  # the end of each document; what only spells it is text


def test_the_trained_tokenizer_is_bytes_and_merges_in_rank_order(token_file, text):
    tokenizer = token_file.tokenizer()
    assert tokenizer.id_to_token(0) == "<|endoftext|>"
    assert sorted(len(tokenizer.id_to_token(token)) for token in range(1, 257)) == [1] * 256
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    assert ["".join(merge) for merge in merges] == [tokenizer.id_to_token(token) for token in range(257, 300)]
    assert tokenizer.decode(tokenizer.encode("völlig 新しい\n").ids) == "völlig 新しい\n"


def test_the_same_call_gives_the_same_tokens(token_file, text, tmp_path):
    again = ih.tokenize_text(text, tmp_path / "again", vocab_size=300)
    assert again.fingerprint == token_file.fingerprint
    assert again.description == token_file.description


def test_pieces_of_a_long_document_give_the_tokens_of_the_whole(text, tmp_path):
    long = "".join("".join(text[:40]) + f"\n\n  Part {part}\t \n\n\n" for part in range(12))
    assert len(list(pieces_of_text(long))) > 2
    written = ih.tokenize_text([long], tmp_path / "long", vocab_size=300)
    whole = written.tokenizer()
    whole.encode_special_tokens = True
    assert written.tokens()[:-1].tolist() == whole.encode(long).ids


def test_files_folders_and_datasets_are_tokenized(token_file, text, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "all.jsonl").write_text("".join(json.dumps({"body": part}) + "\n" for part in text))
    folder = ih.tokenize_text(tmp_path / "corpus", tmp_path / "1", vocab_size=300, text_field="body")
    dataset = ih.tokenize_text(datasets.Dataset.from_dict({"text": text}), tmp_path / "2", vocab_size=300)
    (tmp_path / "books.txt").write_text("<|endoftext|>\n".join(text))
    file = ih.tokenize_text(tmp_path / "books.txt", tmp_path / "3", vocab_size=300)
    assert folder.fingerprint == dataset.fingerprint == file.fingerprint == token_file.fingerprint


def test_a_given_tokenizer_is_used_in_any_form(text, tmp_path):
    words = {"[UNK]": 0, "start": 1, "the": 2, "cat": 3, "[MASK]": 70_000}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="start", unk_token="[UNK]")
    before = tokenizer.to_str()
    files = [
        ih.tokenize_text(["the cat the dog"], tmp_path / "1", tokenizer=tokenizer, start_token="start"),
        ih.tokenize_text(["the cat the dog"], tmp_path / "2", tokenizer=tmp_path, start_token="start"),
        ih.tokenize_text(["the cat the dog"], tmp_path / "3", tokenizer=wrapped),
    ]
    for file in files:
        assert file.tokens().tolist() == [2, 3, 2, 0, 1]
        assert file.tokens().dtype == np.uint32  # 70,000 needs more than 16 bits
        assert (file.d_vocab, file.bos) == (70_001, 1)
    assert tokenizer.to_str() == before


def test_max_tokens_stops_and_the_sample_bounds_the_training_of_the_tokenizer(token_file, text, tmp_path):
    cut = ih.tokenize_text(text, tmp_path / "cut", vocab_size=300, max_tokens=1000)
    assert cut.tokens().tolist() == token_file.tokens()[:1000].tolist()
    sampled = train_tokenizer((piece for part in text for piece in pieces_of_text(part)), 280, n_characters=700)
    alone = train_tokenizer(pieces_of_text("".join(text)), 280, n_characters=700)
    assert sampled.get_vocab() == alone.get_vocab()


def test_what_is_there_already_is_returned_and_something_else_is_refused(token_file, text):
    stamp = (token_file.path / "tokens.bin").stat().st_mtime_ns
    assert ih.tokenize_text(text, token_file.path, vocab_size=300) == token_file
    assert (token_file.path / "tokens.bin").stat().st_mtime_ns == stamp
    with pytest.raises(ih.InputError, match="holds tokens made with another tokenizer:"):
        ih.tokenize_text(text, token_file.path, vocab_size=301)
    with pytest.raises(ih.InputError, match="another text and max_tokens:"):
        ih.tokenize_text(text[:5], token_file.path, vocab_size=300, max_tokens=5)


def test_an_empty_folder_is_filled_and_one_that_cannot_be_made_is_refused(text, tmp_path):
    (tmp_path / "empty").mkdir()
    assert ih.tokenize_text(text, tmp_path / "empty", vocab_size=300).n_tokens
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ih.InputError, match=r"cannot be made .* choose another folder"):
        ih.tokenize_text(text, tmp_path / "file" / "tokens", vocab_size=300)


def test_of_two_writers_the_second_leaves_the_first_ones_file(text, token_file, tmp_path):
    def chunks():
        yield token_file.tokens()
        ih.tokenize_text(text, tmp_path / "out", vocab_size=300)

    with pytest.raises(ih.InputError, match="call again if it came into being meanwhile"):
        write_token_file(
            tmp_path / "out", chunks(), tokenizer=token_file.tokenizer(), d_vocab=300, bos=0, description={}
        )
    assert TokenFile.open(tmp_path / "out") == ih.tokenize_text(text, tmp_path / "out", vocab_size=300)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_behind_when_it_fails(text, tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "".join(text)}) + "\nno json\n")
    with pytest.raises(ih.InputError, match="line 2"):
        ih.tokenize_text(tmp_path / "bad.jsonl", tmp_path / "out", vocab_size=300, sample_characters=10_000)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either vocab_size, .* or tokenizer"),
        ({"vocab_size": 300, "tokenizer": "x"}, "give either vocab_size, .* or tokenizer"),
        ({"vocab_size": 256}, "vocab_size: expected an integer of at least 257"),
        ({"vocab_size": 100_000}, "vocab_size: the text allows a vocabulary of [0-9]+, 100000 was asked for"),
        ({"vocab_size": 300, "max_tokens": 0}, "max_tokens: expected an integer of at least 1"),
        ({"tokenizer": "no/such/file"}, "tokenizer: no/such/file cannot be read as a tokenizer.json"),
        ({"tokenizer": 3}, "tokenizer: expected the path .* got int"),
        ({"tokenizer": Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))}, "no start token .* start_token="),
    ],
)
def test_wrong_calls_are_refused(text, tmp_path, arguments, message):
    with pytest.raises(ih.InputError, match=message):
        ih.tokenize_text(text, tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_source_without_text_is_refused(token_file, tmp_path):
    with pytest.raises(ih.InputError, match="the source holds no text"):
        ih.tokenize_text([""], tmp_path / "out", tokenizer=token_file.path)


@pytest.fixture
def copy(token_file, tmp_path) -> pathlib.Path:
    """A copy that may be damaged."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in token_file.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert TokenFile.open(folder).fingerprint == token_file.fingerprint
    return folder


def change_sidecar(folder: pathlib.Path, **changes) -> None:
    sidecar = json.loads((folder / "tokens.json").read_text())
    (folder / "tokens.json").write_text(json.dumps({**sidecar, **changes}))


def test_a_truncated_file_is_refused(copy):
    os.truncate(copy / "tokens.bin", 1001)
    with pytest.raises(
        ih.DamagedFileError, match=r"tokens.bin has 1001 bytes where \d+ are expected.*make the tokens anew"
    ):
        TokenFile.open(copy, verify=False)


def test_altered_ids_are_refused(copy):
    data = bytearray((copy / "tokens.bin").read_bytes())
    data[500] ^= 1
    (copy / "tokens.bin").write_bytes(data)
    with pytest.raises(ih.DamagedFileError, match="was altered: its hash is another one"):
        TokenFile.open(copy)
    with pytest.raises(ih.DamagedFileError, match="was altered"):
        ih.TokenCorpus(copy, 16)


def test_another_tokenizer_is_refused(copy):
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ih.DamagedFileError, match="is not the tokenizer that made these tokens"):
        TokenFile.open(copy)


def test_foreign_incomplete_and_other_version_files_are_refused(copy, tmp_path):
    change_sidecar(copy, version=2)
    with pytest.raises(ih.DamagedFileError, match=r"version 2 of .* reads version 1.* make the tokens anew"):
        TokenFile.open(copy)
    change_sidecar(copy, version=1, counts="many")
    with pytest.raises(ih.DamagedFileError, match="make the tokens anew"):
        TokenFile.open(copy)
    change_sidecar(copy, format="something else")
    with pytest.raises(ih.DamagedFileError, match="is not a file of the format 'ih_lens token file'"):
        TokenFile.open(copy)
    (copy / "tokens.json").write_text("{ half of a json")
    with pytest.raises(ih.DamagedFileError, match="truncated or altered"):
        TokenFile.open(copy)
    with pytest.raises(ih.DamagedFileError, match=r"holds no tokens.json"):
        TokenFile.open(tmp_path)
    with pytest.raises(ih.InputError, match="is no folder of tokens"):
        TokenFile.open(tmp_path / "missing")


@pytest.mark.parametrize("missing", ["tokens.bin", "tokenizer.json"])
def test_a_missing_file_is_refused(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(ih.DamagedFileError, match="incomplete"):
        TokenFile.open(copy)


def test_a_full_disk_is_told_as_one(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ih.StorageError, match=r"cannot be written: No space left on device. Make room"):
        ih.tokenize_text(["some text"] * 50, tmp_path / "tokens", vocab_size=257)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_makes_the_library_panic_is_refused(text, tmp_path):
    """A panic of Rust code is no `Exception`: the prefix is longer than the second token of the merge."""
    record = json.loads(Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")])).to_str())
    record["model"]["continuing_subword_prefix"] = "#########"
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(ih.InputError, match=r"cannot be read as a tokenizer.json .(range end|byte) index"):
        ih.tokenize_text(text, tmp_path / "out", tokenizer=tmp_path)
    with pytest.raises(DamagedFileError, match="restore it from a copy"):
        vocabulary_of_run(tmp_path)
    assert not (tmp_path / "out").exists()
