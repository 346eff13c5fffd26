"""Folders in the Hugging Face format from anybody: no code runs, no file elsewhere is opened, no memory is taken."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.models import hub_files
from tests.models.huggingface_models import save_huggingface

_opened: list[str] = []
_watched: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and str(arguments[0]).startswith(_watched[0]):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)  # can never be removed; notes nothing outside `elsewhere`


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "whole"
    save_huggingface(place, "gpt2")
    return place


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def elsewhere(whole: Path, tmp_path: Path) -> Path:
    """Weights outside the folder; whoever opens them is noted."""
    place = Path(shutil.copytree(whole, tmp_path / "elsewhere"))
    _watched[:], _opened[:] = [str(place)], []
    return place


class _Harm:
    """What an unpickler would run: makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (self.mark,)


def _change(folder: Path, name: str = "config.json", **changes: Any) -> None:
    record = json.loads((folder / name).read_bytes())
    (folder / name).write_text(json.dumps(record | changes))


def _index(folder: Path, name: object) -> None:
    (folder / "model.safetensors").unlink()
    record = {"metadata": {}, "weight_map": {"transformer.wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(record))


@pytest.mark.parametrize("kind", ["zip", "bare", "shard", "named safetensors"])
def test_no_pickle_is_run(folder: Path, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "harmed"
    harm = {"weights": bytes(200_000), "harm": _Harm(mark)}
    (folder / "model.safetensors").unlink()
    if kind == "zip":
        torch.save(harm, folder / "pytorch_model.bin")
    elif kind == "shard":
        torch.save(harm, folder / "a.bin")
        (folder / "pytorch_model.bin.index.json").write_text('{"metadata": {}, "weight_map": {"x": "a.bin"}}')
    else:
        name = "pytorch_model.bin" if kind == "bare" else "model.safetensors"
        (folder / name).write_bytes(pickle.dumps(harm))
    with pytest.raises(ih.DamagedFileError, match="safetensors" if "named" not in kind else "truncated or altered"):
        ih.load_model(folder)
    assert not mark.exists()
    with open(next(folder.glob("*.bin"), folder / "model.safetensors"), "rb") as file:  # or the test shows nothing
        torch.load(file, weights_only=False) if kind in ("zip", "shard") else pickle.load(file)
    assert mark.exists()


@pytest.mark.parametrize("model_type", ["gpt2", "unheard_of"])
def test_no_code_of_the_folder_is_run(folder: Path, tmp_path: Path, model_type: str) -> None:
    mark = tmp_path / "harmed"
    (folder / "harm.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nfrom transformers import GPT2Config as C, GPT2LMHeadModel as M\n"
        "from transformers import GPT2TokenizerFast as T\n"
    )
    _change(folder, auto_map={"AutoConfig": "harm.C", "AutoModelForCausalLM": "harm.M"}, model_type=model_type)
    tokenizer = {"auto_map": {"AutoTokenizer": ["harm.T", "harm.T"]}, "tokenizer_class": "Harm"}
    _change(folder, "tokenizer_config.json", **tokenizer)
    if model_type == "gpt2":
        assert ih.load_model(folder).tokenizer is not None
    else:
        with pytest.raises(ih.InputError, match="needs code from its own repository, which load_model never runs"):
            ih.load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../elsewhere/model.safetensors", "absolute", "sub/x.safetensors", "a\0b", 5, ["x"], "", ".."]
)
def test_an_index_names_files_beside_it_only(folder: Path, elsewhere: Path, name: object) -> None:
    _index(folder, str(elsewhere / "model.safetensors") if name == "absolute" else name)
    with pytest.raises(ih.DamagedFileError, match=r"no file beside it|no index of weights"):
        ih.load_model(folder)
    assert not _opened


@pytest.mark.parametrize("content", [b"[]", b"5", b"", b"\xff", b"[" * 100_000, b'{"weight_map": []}'])
def test_an_index_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(ih.DamagedFileError, match=r"no index of weights|truncated or altered"):
        ih.load_model(folder)


def test_no_file_elsewhere_is_opened(folder: Path, elsewhere: Path) -> None:
    files = {name: str(elsewhere / "tokenizer.json") for name in ("tokenizer_file", "vocab_file", "merges_file")}
    _change(folder, "tokenizer_config.json", name_or_path=str(elsewhere), **files)
    _change(folder, _name_or_path=str(elsewhere), name_or_path=str(elsewhere))
    assert ih.load_model(folder).tokenizer is not None
    assert not _opened
    (folder / "tokenizer.json").unlink()
    _change(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    ih.load_model(folder)
    assert not _opened
    _change(folder, transformers_weights="../elsewhere/model.safetensors")
    with pytest.raises(ih.DamagedFileError, match="no file beside it"):
        ih.load_model(folder)
    assert not _opened
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(elsewhere)}))
    with pytest.raises(ih.InputError, match="holds an adapter"):
        ih.load_model(folder)
    assert not _opened
    (elsewhere / "config.json").read_bytes()
    assert _opened  # or the watch sees nothing


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(ih.DamagedFileError, match="is no file"):
        ih.load_model(folder)


@pytest.mark.parametrize("size", ["n_layer", "vocab_size", "n_embd", "n_inner", "n_positions"])
@pytest.mark.parametrize("value", [10**9, 10**18, -1, True, "many"])
def test_sizes_that_the_weights_do_not_have(folder: Path, size: str, value: object) -> None:
    _change(folder, "config.json", **{size: value})
    with pytest.raises(ih.IHLensError):
        ih.load_model(folder)


_VALUES: list[Any] = [None, [], {}, "\ud800", float("nan"), 10**30, -1]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"])
def test_files_that_are_not_what_they_should_be(folder: Path, name: str) -> None:
    """Loads, or refuses with one of our errors."""
    known = json.loads((folder / name).read_bytes())
    changes = [{key: _VALUES[place % len(_VALUES)]} for place, key in enumerate(known)]
    contents = [b"", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100_000]
    contents += [json.dumps(known | change).encode() for change in changes if "model_max_length" not in change]
    contents += [json.dumps(known | {"model_max_length": "x"}).encode()]
    refused = 0
    for content in contents:
        (folder / name).write_bytes(content)
        try:
            ih.load_model(folder)
        except ih.IHLensError:
            refused += 1
    assert refused


@pytest.mark.parametrize("content", [b"{}", b"[", b'{"weight_map": {"x": "../../../other"}}'])
def test_a_damaged_index_in_the_cache_is_no_list_of_weights(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "model.safetensors.index.json"
    monkeypatch.setattr(hub_files, "cached_file", lambda *_: index)
    index.write_bytes(content)
    assert hub_files.cached_weights("lab/model", "0" * 40) == {}
