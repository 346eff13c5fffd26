import bz2
import gzip
import json
import lzma

import datasets
import pytest

import ih_lens as ih
from ih_lens.data import dataset_source
from ih_lens.data.pieces import PIECE_CHARACTERS, Piece, pieces_of_lines, pieces_of_text
from ih_lens.data.sources import text_source


def documents(source) -> list[str]:
    """The whole documents again."""
    found, current = [], ""
    for piece in source.pieces():
        current += piece.text
        if piece.ends_document:
            found.append(current)
            current = ""
    assert not current
    return found


def test_a_file_is_divided_at_lines_that_hold_the_separator(tmp_path):
    book = tmp_path / "books.anything"
    book.write_text("one\n\ntwo\n<|endoftext|>\nthree <|endoftext|>\n<|endoftext|>\n<|endoftext|>\nfour")
    assert documents(text_source(book)) == ["one\n\ntwo\n", "three <|endoftext|>\n", "four"]
    assert len(documents(text_source(str(book), separator=None))) == 1
    assert len(documents(text_source(book, separator="two"))) == 2


def test_a_folder_is_read_in_sorted_order_by_suffix_and_unpacked(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.md").write_text("second")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"first"))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress("thírd".encode()))
    (tmp_path / "d.jsonl.bz2").write_bytes(bz2.compress(b'{"text": "fourth"}\n\n{"text": "fifth", "n": 1}\n'))
    (tmp_path / "e.py").write_text("left out")
    assert documents(text_source(tmp_path)) == ["first", "second", "thírd", "fourth", "fifth"]
    assert documents(text_source(tmp_path, suffixes=[".py"])) == ["left out"]


def test_long_documents_come_in_pieces_that_join_to_the_same_text():
    lines = [f"line {number} of a long document   \n" if number % 5 else "\n" for number in range(20_000)]
    lines += [f"another {number}\n" for number in range(20_000)]
    pieces = list(pieces_of_lines(lines, None))
    assert "".join(piece.text for piece in pieces) == "".join(lines)
    assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert max(len(piece.text) for piece in pieces[-3:]) < 1.1 * PIECE_CHARACTERS
    assert all(piece.text.startswith("\n") for piece in pieces[1:])
    assert not any(piece.text[-1].isspace() for piece in pieces[:-1])
    assert list(pieces_of_text("".join(lines))) == pieces
    assert list(pieces_of_text("short")) == [Piece("short", True)]
    assert list(pieces_of_text("")) == []


def test_the_description_depends_on_names_contents_and_reading(tmp_path):
    def described(**options):
        return json.dumps(text_source(tmp_path, **options).describe())

    (tmp_path / "a.txt").write_text("some text")
    first = described()
    assert json.loads(first)["n_bytes"] == 9
    assert described() == first
    assert described(separator=None) != first
    (tmp_path / "a.txt").write_text("same size")
    assert described() != first
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    (tmp_path / "b.txt").write_text("some text")
    assert described() != first


def test_the_standard_library_is_text_that_every_machine_has():
    source = ih.python_standard_library()
    assert source == ih.python_standard_library() == text_source("python-stdlib")
    names = [path.relative_to(source.root).as_posix() for path in source.paths]
    assert names == [path.relative_to(source.root).as_posix() for path in sorted(source.paths)]
    assert {"ast.py", "json/decoder.py"} <= set(names)
    assert not any("site-packages" in name or "/test/" in f"/{name}" for name in names)
    assert source.describe()["n_bytes"] > 5e6
    assert len(documents(source)) > 300


def test_datasets_and_lists_are_read_row_by_row():
    rows = {"text": ["one", "two"], "other": ["three", "four"]}
    dataset = datasets.Dataset.from_dict(rows)
    for form in (dataset, dataset.to_iterable_dataset()):
        source = text_source(form)
        assert documents(source) == documents(source) == ["one", "two"]
        assert documents(text_source(form, text_field="other")) == ["three", "four"]
        assert source.describe() == text_source(form).describe()
        assert source.describe() != text_source(form, text_field="other").describe()
    assert documents(text_source(["one", "two"])) == ["one", "two"]
    assert text_source(["one", "two"]).describe() != text_source(["onet", "wo"]).describe()


def test_a_dataset_of_the_hub_is_streamed(monkeypatch):
    def load_dataset(name, config, *, split, streaming):
        assert (name, config, split, streaming) == ("owner/name", "en", "validation", True)
        return datasets.Dataset.from_dict({"text": ["from afar"]}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for spelling in ("owner/name", "hf:owner/name"):
        source = text_source(spelling, config="en", split="validation")
        assert isinstance(source, dataset_source.DatasetSource)
        assert documents(source) == ["from afar"]
        assert source.describe()["name"] == "owner/name"


def test_sources_that_do_not_exist_are_refused(tmp_path, monkeypatch):
    def unreachable(*_args, **_options):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ih.InputError, match=r"no file or folder here, .* could not be opened .* no route to the hub"):
        text_source("nobody/nothing")
    with pytest.raises(ih.InputError, match="expected a file or folder that exists"):
        text_source(tmp_path / "missing")
    with pytest.raises(ih.InputError, match="expected a file or folder that exists"):
        text_source(3)
    with pytest.raises(ih.InputError, match=r"holds no file that ends in .txt, .md, .jsonl"):
        text_source(tmp_path)
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})})
    with pytest.raises(ih.InputError, match=r"one split of a dataset, got all of them; choose from \['train'\]"):
        text_source(splits)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Übung".encode("latin-1"))
    with pytest.raises(ih.InputError, match=r"latin.txt is no text in UTF-8"):
        documents(text_source(tmp_path / "latin.txt"))
    packed = lzma.compress(b"text " * 10_000)
    (tmp_path / "cut.txt.xz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "foreign.txt.gz").write_bytes(b"no archive at all")
    (tmp_path / "foreign.txt.bz2").write_bytes(b"no archive at all")
    for name in ("cut.txt.xz", "foreign.txt.gz", "foreign.txt.bz2"):
        with pytest.raises(ih.DamagedFileError, match=f"{name} cannot be unpacked"):
            documents(text_source(tmp_path / name))
    vanished = text_source(tmp_path / "latin.txt")
    (tmp_path / "latin.txt").unlink()
    with pytest.raises(ih.InputError, match=r"latin.txt cannot be read: No such file"):
        documents(vanished)


@pytest.mark.parametrize("line", ['{"title": "no text"}', '{"text": 3}', "[1]", "no json"])
def test_records_without_text_are_named_with_their_line(tmp_path, line):
    (tmp_path / "records.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ih.InputError, match=r"records.jsonl line 2: expected a JSON object with text under 'text'"):
        documents(text_source(tmp_path))


def test_rows_without_text_name_the_columns():
    dataset = datasets.Dataset.from_dict({"body": ["one"], "id": [1]})
    with pytest.raises(ih.InputError, match=r"row 0 .* column 'text', got NoneType; the columns are body, id"):
        documents(text_source(dataset))
