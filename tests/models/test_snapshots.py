import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import ih_lens as ih
from tests.helpers import ZOO, random_tokens, tiny_model
from tests.training.helpers import same_weights, tiny_cfg, tiny_corpus, train_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("runs") / "smeared", smeared_keys=True)


@pytest.fixture
def folder(run, tmp_path):
    """A copy of the last snapshot, without its run."""
    return shutil.copytree(run.snapshots[-1].path, tmp_path / "moved")


def rewrite(folder, **changes):
    record = json.loads((folder / "snapshot.json").read_text())
    (folder / "snapshot.json").write_text(json.dumps({**record, **changes}))


def test_says_what_it_is(run):
    snapshot = run.snapshots[1]
    assert (snapshot.step, snapshot.tokens_elapsed, snapshot.smeared_keys) == (5, 320, True)
    assert str(snapshot) == f"smeared/step_00000005 (sha256 {snapshot.weights_hash[:16]})"
    assert snapshot == ih.Snapshot(str(snapshot.path))
    with pytest.raises(AttributeError):
        snapshot.step = 6


def test_loads_on_its_own(run, folder):
    model = ih.Snapshot(folder).load()
    assert ih.models.smeared_keys.has_smeared_keys(model)
    assert same_weights(model, run.snapshots[-1].load())
    assert set(load_file(folder / "model.safetensors")) == {name for name, _ in model.named_parameters()}
    tokens = random_tokens(model, length=16)
    assert torch.equal(model(tokens), run.snapshots[-1].load()(tokens))


def test_loads_in_another_dtype(folder):
    model = ih.Snapshot(folder).load(dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model.cfg.dtype == torch.float64


def test_loads_without_the_code_that_trained_it(folder):
    code = (
        "import sys, torch\n"
        "from ih_lens.models.snapshots import Snapshot\n"
        f"model = Snapshot({str(folder)!r}).load()\n"
        "print(model.cfg.d_model, sorted(name for name in sys.modules if name.startswith('ih_lens.')))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("16 ")
    assert "ih_lens.training" not in told.stdout
    assert told.stderr == ""


@pytest.mark.parametrize("kind", ZOO)
def test_configurations_survive_json(kind):
    from ih_lens.models.config_json import config_from_json, config_to_json

    cfg = tiny_model(kind).cfg
    again = config_from_json(json.loads(json.dumps(config_to_json(cfg))))
    assert vars(again) == vars(cfg)


def test_a_configuration_with_a_seed_leaves_the_global_one_alone():
    from ih_lens.models.config_json import config_from_json, config_to_json

    state = torch.get_rng_state()
    config_from_json({**config_to_json(tiny_cfg()), "seed": 3})
    assert torch.equal(torch.get_rng_state(), state)


def truncate(folder):
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)


def flip_one_bit(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def other_weights(folder):
    save_file({"W": torch.ones(3)}, folder / "model.safetensors")


def foreign_record(folder):
    (folder / "snapshot.json").write_text('{"format": "holiday pictures", "version": 1}')


def link_outside(folder):
    outside = folder.parent / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


def pickled_weights(folder):
    import hashlib

    torch.save({"W": torch.ones(3)}, folder / "model.safetensors")
    rewrite(folder, weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def consistent_but_wrong_weights(folder):
    import hashlib

    other_weights(folder)
    rewrite(folder, weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated or altered.*Restore it from a copy"),
        (flip_one_bit, "truncated or altered.*Restore it from a copy"),
        (other_weights, "truncated or altered"),
        (pickled_weights, "no safetensors file"),
        (consistent_but_wrong_weights, "do not fit the configuration"),
        (link_outside, "leads out of its folder"),
        (foreign_record, "not a file of the format 'ih_lens snapshot'"),
        (lambda folder: (folder / "snapshot.json").write_text('{"format": "ih_lens sn'), "truncated or altered"),
        (lambda folder: (folder / "snapshot.json").write_bytes(b"\xff\xfe\x00"), "truncated or altered"),
        (lambda folder: (folder / "snapshot.json").write_text("[" * 100_000), "truncated or altered"),
        (lambda folder: (folder / "snapshot.json").unlink(), "holds no snapshot.json: it is foreign or incomplete"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda folder: rewrite(folder, version=2), r"version 2 .* reads version 1"),
        (lambda folder: rewrite(folder, step="five"), "'step' should be int"),
        (lambda folder: rewrite(folder, step=-3), "'step'"),
        (lambda folder: rewrite(folder, model={"d_model": 3}), "no dtype"),
        (lambda folder: rewrite(folder, model={"dtype": "float32", "n_head": 3}), "does not know: n_head"),
        (
            lambda folder: rewrite(folder, model={"dtype": "float32", "d_model": 3}),
            "in the configuration, n_layers is None",
        ),
    ],
)
def test_damage_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(ih.DamagedFileError, match=message):
        ih.Snapshot(folder).load()


def test_no_such_folder(tmp_path):
    with pytest.raises(ih.DamagedFileError, match=r"holds no snapshot.json"):
        ih.Snapshot(tmp_path / "missing")


class TextCorpus(ih.RestartCycle):
    """Symbols with names."""

    tokenizer = Tokenizer(WordLevel({f"w{index}": index for index in range(12)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    bos = 3


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    corpus = TextCorpus(n_symbols=12, period=4, length=16)
    return train_tiny(tmp_path_factory.mktemp("runs") / "text", corpus=corpus)


def test_models_get_their_tokenizer_back(text_run):
    model = text_run.snapshots[-1].load()
    assert model.tokenizer.bos_token_id == 3
    assert model.cfg.default_prepend_bos
    assert model.to_tokens("w5 w7").tolist() == [[3, 5, 7]]
    assert model.to_tokens("w5 w7", prepend_bos=False).tolist() == [[5, 7]]
    assert model.to_string([5, 7]) == "w5 w7"


def test_a_snapshot_alone_has_no_tokenizer(text_run, tmp_path):
    moved = shutil.copytree(text_run.snapshots[-1].path, tmp_path / "snapshots" / "moved")
    assert ih.Snapshot(moved).load().tokenizer is None


def test_another_tokenizer_is_refused(text_run, tmp_path):
    run = ih.open_run(shutil.copytree(text_run.path, tmp_path / "run"))
    file = run.path / "tokenizer.json"
    file.write_text(file.read_text().replace("w5", "v5"))
    with pytest.raises(ih.DamagedFileError, match="not the tokenizer that"):
        run.snapshots[-1].load()


def test_same_corpus_different_object(run):
    assert run.manifest["corpus"] == json.loads(json.dumps(tiny_corpus().describe()))
