"""What was made to do harm is refused before it does: code in data, bombs, pipes, links and names that lead out."""

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ih_lens as ih
from ih_lens.errors import DamagedFileError
from ih_lens.models.disk_budget import DiskBudget
from ih_lens.reading import MOST_DEPTH, parse_json, sha256_of
from ih_lens.report.settings import TableSettings
from ih_lens.report.store import MeasurementStore
from ih_lens.viz.viewer.triangles import Triangle
from tests.training.helpers import tiny_cfg, train_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ih.Run:
    return train_tiny(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def written_table(run: ih.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = TableSettings(n_examples=4, ablate=False)
    table = ih.ModelAnalysisTable.from_runs([run], settings=settings, progress=False)
    return table.save(tmp_path_factory.mktemp("tables") / "table.zarr")


@pytest.fixture
def table(written_table: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written_table, tmp_path / "table.zarr")


@pytest.fixture
def copied(run: ih.Run, tmp_path: Path) -> Path:
    return shutil.copytree(run.path, tmp_path / "run")


def rewrite(file: Path, change: Callable[[Any], object]) -> None:
    record = json.loads(file.read_bytes())
    change(record)
    file.write_text(json.dumps(record))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


def _pickled_array(folder: Path, mark: Path, **changes: Any) -> str:
    """Turn an array of a saved table into one whose chunk is a pickle; returns its name."""
    name = "models/000-one/step"
    found: dict[str, Any] = {"dtype": "<i8", "filters": [{"id": "pickle", "protocol": 5}], "fill_value": None}
    for file, place in ((folder / name / ".zarray", None), (folder / ".zmetadata", f"{name}/.zarray")):

        def change(record: Any, place: str | None = place) -> None:
            array = record if place is None else record["metadata"][place]
            array.update({"shape": [1], "chunks": [1], **found, **changes})

        rewrite(file, change)
    (folder / name / "0").write_bytes(pickle.dumps(np.array([Payload(mark)], dtype=object)))
    return name


def test_a_table_that_names_a_decoder_which_unpickles_is_refused_and_runs_nothing(table: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was executed"
    name = _pickled_array(table, mark)
    with pytest.raises(DamagedFileError, match="which no saved table has"):
        ih.ModelAnalysisTable.load(table)
    assert not mark.exists()
    pickle.loads((table / name / "0").read_bytes())  # what the decoder that the store names would have done
    assert mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"filters": [{"id": "json2"}]},
        {"dtype": "<i8", "filters": None, "compressor": {"id": "zstd", "level": 0}},
        {"dtype": "<i8", "filters": None, "compressor": {"id": "of nobody"}},
        {"dtype": "|O", "filters": None},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}]},
        {"dtype": "|V8", "filters": None},
        {"dtype": [["a", "|O"]], "filters": None},
        {"dtype": "<M8[ns]", "filters": None},
        {"dtype": "<i8", "filters": None, "shape": [10**12], "chunks": [10**12]},
        {"dtype": "<i8", "filters": None, "shape": [10**12], "chunks": [1]},
        {"dtype": "<i8", "filters": None, "shape": [2**62, 2**62], "chunks": [1, 1]},
        {"dtype": "<i8", "filters": None, "shape": [-1]},
        {"dtype": "<i8", "filters": None, "shape": [True]},
        {"dtype": "<U999999", "filters": None},
        {"dtype": "<i8", "filters": None, "chunks": [0]},
    ],
)
def test_nothing_but_plain_arrays_is_read(table: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    mark = tmp_path / "was executed"
    _pickled_array(table, mark, **changes)
    with pytest.raises(DamagedFileError, match="make the table again"):
        ih.ModelAnalysisTable.load(table)
    assert not mark.exists()


def test_only_the_checked_metadata_of_a_table_count(table: Path, written_table: Path) -> None:
    (table / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    (table / "models" / "000-one" / "step" / ".zarray").write_text("[")
    assert ih.ModelAnalysisTable.load(table).models == ["one"]


@pytest.mark.parametrize("name", ["../outside/.zarray", "/etc/.zarray", "a\\b/.zarray", "a\x00b/.zarray", "./.zarray"])
def test_a_table_names_nothing_outside(table: Path, name: str) -> None:
    (table.parent / "outside").mkdir()
    rewrite(table / ".zmetadata", lambda record: record["metadata"].update({name: {"shape": [], "chunks": []}}))
    with pytest.raises(DamagedFileError, match="no part of a table"):
        ih.ModelAnalysisTable.load(table)


@pytest.mark.parametrize("part", ["models", "models/000-one", "models/000-one/step", "models/000-one/step/0"])
def test_links_out_of_a_table_are_refused(table: Path, part: str) -> None:
    _moved_out(table / part)
    with pytest.raises(DamagedFileError, match=r"is a link|is altered"):
        ih.ModelAnalysisTable.load(table)


def _moved_out(place: Path) -> None:
    """Put a file or folder somewhere else, and a link to it in its place."""
    top = next(parent for parent in place.parents if parent.name in {"run", "table.zarr"})
    elsewhere = top.with_name("elsewhere") / place.name
    elsewhere.parent.mkdir()
    shutil.move(place, elsewhere)
    place.symlink_to(elsewhere)


LAST = "snapshots/step_00000012"


@pytest.mark.parametrize("part", ["snapshots", LAST, f"{LAST}/model.safetensors", f"{LAST}/snapshot.json"])
def test_links_out_of_a_run_are_refused(copied: Path, part: str) -> None:
    _moved_out(copied / part)
    with pytest.raises(DamagedFileError, match="leads out of"):
        ih.open_run(copied).snapshots[-1].load()


@pytest.mark.parametrize("name", ["run.json", "losses.jsonl", "held_out.safetensors"])
def test_links_of_single_files_out_of_a_run_are_refused(copied: Path, name: str) -> None:
    _moved_out(copied / name)
    with pytest.raises(DamagedFileError, match="leads out of its folder"):
        print([(opened.losses, opened.held_out) for opened in [ih.open_run(copied)]])


def test_a_path_given_by_hand_may_be_a_link(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copied)
    assert ih.open_run(tmp_path / "link").snapshots[-1].load().cfg.n_layers == 1


def test_no_tokenizer_is_loaded_that_a_snapshot_names(copied: Path, tmp_path: Path) -> None:
    """TransformerLens loads what `tokenizer_name` says, with its code if `trust_remote_code` says so."""
    mark, place = tmp_path / "was executed", tmp_path / "tokenizer"
    place.mkdir()
    (place / "config.json").write_text('{"model_type": "gpt2"}')
    (place / "own.py").write_text(
        "import pathlib, transformers\n"
        f"pathlib.Path({str(mark)!r}).touch()\n"
        "class Own(transformers.PreTrainedTokenizerFast): pass\n"
    )
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    named = {"tokenizer_name": str(place), "trust_remote_code": True}
    rewrite(copied / LAST / "snapshot.json", lambda record: record["model"].update(named))
    rewrite(copied / "run.json", lambda record: record["model"].update(named))
    run = ih.open_run(copied)
    assert run.snapshots[-1].load().tokenizer is None
    assert ih.build_model(run.cfg).tokenizer is None
    assert not mark.exists()


READERS: dict[str, Callable[[Path], object]] = {
    "scores": ih.HeadScores.load,
    "examples": ih.EvalSet.load,
    "heads on text": ih.HeadsOnText.load,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing", "loop", "empty", "long name", "NUL"])
def test_what_is_no_file_is_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError):
        READERS[name](_no_file(tmp_path / "file", kind))


def _no_file(path: Path, kind: str) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "empty":
        path.touch()
    elif kind == "long name":
        return path.with_name("x" * 5000)
    elif kind == "NUL":
        return Path(f"{path}\x00")
    return path


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "empty"])
@pytest.mark.parametrize("name", ["run.json", "losses.jsonl", f"{LAST}/snapshot.json", f"{LAST}/model.safetensors"])
def test_what_is_no_file_in_a_run_is_refused_at_once(copied: Path, name: str, kind: str) -> None:
    (copied / name).unlink()
    _no_file(copied / name, kind)
    if kind == "empty" and name == "losses.jsonl":
        assert ih.open_run(copied).losses.empty
        return
    with pytest.raises(DamagedFileError):
        print([(run.losses, run.snapshots[-1].load()) for run in [ih.open_run(copied)]])


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "empty", "nothing"])
@pytest.mark.parametrize("name", [".zattrs", ".zmetadata", "models/000-one/step/0"])
def test_what_is_no_file_in_a_table_is_refused_at_once(table: Path, name: str, kind: str) -> None:
    (table / name).unlink()
    _no_file(table / name, kind)
    with pytest.raises(DamagedFileError):
        ih.ModelAnalysisTable.load(table)


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "empty"])
def test_what_is_no_stored_measurement_is_measured_again(tmp_path: Path, kind: str) -> None:
    store = MeasurementStore(tmp_path)
    _no_file(store.path("losses-1"), kind)
    with pytest.raises(DamagedFileError, match="delete it and measure again"):
        store.read("losses-1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(copied: Path) -> None:
    (copied / "losses.jsonl").chmod(0)
    with pytest.raises(DamagedFileError, match="check"):
        print(ih.open_run(copied).losses)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 5000, "altered"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), f"more than {MOST_DEPTH} deep"),
        ('{"a": 1, "a": 2}', "twice"),
        ("NaN", "no number"),
        ("-Infinity", "no number"),
        ("1e999", "no number"),
        ("9" * 25, "64 bits"),
        ("9" * 5000, "altered"),
        ('"\\ud800"', "surrogates"),
        ("\ufeff{}", "BOM"),
        ("", "altered"),
        ('{"a": 1} x', "altered"),
        ("'a'", "altered"),
    ],
)
def test_json_is_strict(text: str, told: str) -> None:
    with pytest.raises(DamagedFileError, match=told):
        parse_json(text, "record.json")


def test_json_of_other_encodings_is_refused() -> None:
    with pytest.raises(DamagedFileError, match="codec"):
        parse_json(b"\xff\xfe", "record.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"n_layers": 10**9},
        {"d_model": 10**12},
        {"d_mlp": 10**12, "attn_only": False, "act_fn": "relu"},
        {"d_vocab": 10**12},
        {"n_heads": 10**9},
        {"n_ctx": 10**15},
        {"num_experts": 10**9, "experts_per_token": 1},
        {"n_layers": -1},
        {"n_layers": 1.0},
        {"n_layers": True},
        {"n_layers": "1"},
        {"n_layers": None},
        {"d_head": 0},
        {"act_fn": ["relu"]},
        {"normalization_type": "of nobody"},
        {"positional_embedding_type": {}},
        {"attn_types": ["global", "global"]},
        {"attn_types": [[]]},
        {"dtype": "int64"},
        {"dtype": "load"},
        {"n_key_value_heads": 3},
        {"rotary_dim": 10**6},
    ],
)
def test_configurations_that_do_not_fit_the_weights_take_no_memory(copied: Path, changes: dict[str, Any]) -> None:
    rewrite(copied / LAST / "snapshot.json", lambda record: record["model"].update(changes))
    with pytest.raises(DamagedFileError):
        ih.Snapshot(copied / LAST).load()


@pytest.mark.parametrize("change", ["dtype", "extra", "missing", "shape"])
def test_weights_must_be_those_of_the_configuration(copied: Path, change: str) -> None:
    file = copied / LAST / "model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    if change == "dtype":
        weights[name] = weights[name].to(torch.int32)
    elif change == "extra":
        weights["more"] = torch.zeros(1)
    elif change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name].flatten()[:1].clone()
    save_file(weights, file)
    rewrite(copied / LAST / "snapshot.json", lambda record: record.update(weights_sha256=sha256_of(file)))
    with pytest.raises(DamagedFileError, match=r"do not fit|expected was"):
        ih.Snapshot(copied / LAST).load()


def test_a_snapshot_under_another_step_is_refused(copied: Path) -> None:
    shutil.copytree(copied / LAST, copied / "snapshots" / "step_00000011")
    with pytest.raises(DamagedFileError, match="holds the snapshot of step 12"):
        print(ih.open_run(copied).snapshots)


def test_held_out_ids_must_be_in_the_vocabulary(copied: Path) -> None:
    file = copied / "held_out.safetensors"
    save_file({"tokens": torch.full((2, 3), tiny_cfg().d_vocab, dtype=torch.int32)}, file)
    rewrite(copied / "run.json", lambda record: record.update(held_out_sha256=sha256_of(file)))
    with pytest.raises(DamagedFileError, match="outside the vocabulary of 12"):
        print(ih.open_run(copied).held_out)


def test_compressed_entries_that_grow_without_end_are_refused() -> None:
    bomb = zlib.compress(bytes(10**8), 9)
    with pytest.raises(DamagedFileError, match="other than its 3 entries"):
        Triangle(torch.ones(2), bomb).matrix()


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../../../precious.txt": None}},
        {"files": {"/precious.txt": None}},
        {"files": {"a": "*"}},
        {"repository": "../../.."},
        {"repository": ["a"]},
        {"commit": "../.."},
        {"size": -1},
        {"fetched": None},
    ],
)
def test_notes_of_downloads_remove_nothing_outside(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    note = {"repository": "a/b", "commit": "0" * 40, "files": {"x.bin": None}, "size": 10**12, "fetched": 1.0}
    place, folder = tmp_path / "hub" / "models--a--b" / "snapshots" / ("0" * 40), DiskBudget(0)._folder
    place.mkdir(parents=True)
    folder.mkdir(parents=True)
    (tmp_path / "precious.txt").write_text("keep me")
    (place / "x.bin").write_text("fetched")
    (folder / "1.json").write_text(json.dumps(note))
    (folder / "2.json").write_text(json.dumps({**note, **changes}))
    (folder / "3.json").write_text("[" * 10**5)
    assert set(DiskBudget(0)._notes()) == {"1"}
    DiskBudget(0)._drop_oldest(DiskBudget(0)._notes(), 0)
    assert (tmp_path / "precious.txt").exists()
    assert not (place / "x.bin").exists()
