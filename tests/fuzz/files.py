"""Targets: the files that runs, measurements and results leave."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

import ih_lens as ih
from ih_lens.report.settings import TableSettings
from ih_lens.report.store import MeasurementStore
from ih_lens.training.optimizer import build_optimizer
from ih_lens.training.series import last_loss
from ih_lens.training.state import restore_state
from tests.fuzz.targets import Target

_TEXT = ["the cat sat on the mat", "a dog lay on the log, a cat sat by the dog"] * 6
_holders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def scratch() -> Path:
    """A folder for what is read; it goes away with the process."""
    holder = tempfile.TemporaryDirectory(prefix="ih_lens-fuzz-")
    _holders.append(holder)
    return Path(holder.name)


@cache
def _run() -> ih.Run:
    """A run with everything that one can have: tokenizer, held-out examples, a state to resume from."""
    tokens = ih.TokenCorpus(ih.tokenize_text(_TEXT, scratch() / "text", vocab_size=260).path, 6, held_out_every=2)
    config = ih.TrainConfig(
        n_steps=2, batch_size=2, lr=1e-3, snapshots=ih.every(1), state_every=1, repeat_examples=True, n_held_out=4
    )
    cfg = ih.attention_only(2, d_model=8, n_heads=2, d_vocab=260, n_ctx=6)
    return ih.train(cfg, tokens, config, out=scratch() / "run", progress=False)


@cache
def _table() -> ih.ModelAnalysisTable:
    return ih.ModelAnalysisTable.from_runs([_run()], settings=TableSettings(n_examples=4), progress=False)


def _parts(name: str) -> list[Path]:
    """Files of the run by a pattern, in a fixed order."""
    return sorted(_run().path.glob(name))


def _set(file: Path, **values: Any) -> None:
    """Change entries of a JSON file, such as a hash, as somebody who alters the other file would."""
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **values}))


def _altered(name: str, content: bytes) -> Path:
    """A copy of the run with one file altered."""
    copy = scratch() / "altered"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(_run().path, copy)
    (copy / name).write_bytes(content)
    return copy


def _read_run(run: ih.Run) -> object:
    return (
        run.cfg, run.name, run.smeared_keys, run.n_steps, run.finished, run.exponential, len(run.losses), run.held_out
    )  # fmt: skip


def _run_file(name: str) -> Callable[[bytes], object]:
    return lambda content: _read_run(ih.open_run(_altered(name, content)))


def _held_out(content: bytes) -> object:
    run = _altered("held_out.safetensors", content)
    _set(run / "run.json", held_out_sha256=hashlib.sha256(content).hexdigest())
    return ih.open_run(run).held_out


def _last_loss(content: bytes) -> object:
    return last_loss(_altered("losses.jsonl", content))


def _snapshot(file: str) -> Callable[[bytes], object]:
    name = "snapshots/step_00000001"

    def read(content: bytes) -> object:
        run = _altered(f"{name}/{file}", content)
        digest = hashlib.sha256(content).hexdigest()
        if file == "model.safetensors":
            _set(run / name / "snapshot.json", weights_sha256=digest)
        snapshots = ih.open_run(run).snapshots
        return [snapshot.load() for snapshot in snapshots[1:2]]

    return read


def _tokenizer(content: bytes) -> object:
    run = _altered("tokenizer.json", content)
    snapshot = run / "snapshots" / "step_00000001"
    record = json.loads((snapshot / "snapshot.json").read_bytes())["tokenizer"]
    _set(snapshot / "snapshot.json", tokenizer={**record, "sha256": hashlib.sha256(content).hexdigest()})
    return ih.Snapshot(snapshot).load()


def _state(file: str) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        place = _parts("state/step_*")[-1].relative_to(_run().path)
        run = _altered(f"{place}/{file}", content)
        if file == "state.safetensors":
            _set(run / place / "state.json", sha256=hashlib.sha256(content).hexdigest())
        model = ih.build_model(_run().cfg)
        optimizer = build_optimizer(model, ih.TrainConfig(n_steps=1, batch_size=1, lr=1e-3))
        return restore_state(run / "state", model, optimizer)

    return read


def _eval_set(content: bytes) -> object:
    path = scratch() / "evals.safetensors"
    path.write_bytes(content)
    return ih.EvalSet.load(path)


def _eval_set_seeds() -> list[bytes]:
    evals = ih.EvalSet.from_tokens(torch.tensor([[5, 6, 7], [1, 2, 3]]), description={"source": "here"})
    return [evals.save(scratch() / "written.safetensors").read_bytes()]


def _head_scores(content: bytes) -> object:
    path = scratch() / "scores.json"
    path.write_bytes(content)
    scores = ih.HeadScores.load(path)
    return repr(scores), scores.to_dataframe()


def _head_scores_seeds() -> list[bytes]:
    scores = ih.score_heads(_run().snapshots[-1].load(), seed=0, evaluators=["previous_token", "copying"])
    return [scores.save(scratch() / "scores.json").read_bytes()]


def _heads_on_text(content: bytes) -> object:
    path = scratch() / "heads.safetensors"
    path.write_bytes(content)
    found = ih.HeadsOnText.load(path)
    return [found.pattern(head) for head in found.heads]


def _heads_on_text_seeds() -> list[bytes]:
    view = ih.induction_view(_run().snapshots[-1].load(), "the cat")
    return [view.data.save(scratch() / "heads.safetensors").read_bytes()]


def _stored(content: bytes) -> object:
    store = MeasurementStore(scratch() / "store")
    store.folder.mkdir(exist_ok=True)
    store.path(_entries()[0].stem).write_bytes(content)
    return store.read(_entries()[0].stem)


@cache
def _entries() -> list[Path]:
    _table()
    return _parts("measured/head_scores-*.safetensors")


def _saved_table() -> Path:
    path = scratch() / "table.zarr"
    return path if path.exists() else _table().save(path)


def _read_table(path: Path) -> object:
    table = ih.ModelAnalysisTable.load(path)
    table.to_html(scratch() / "table.html")
    return repr(table), table.phase_changes, table.joint_ablation, table.induction_heads, table._repr_html_()


def _table_metadata(content: bytes) -> object:
    copy = scratch() / "altered.zarr"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(_saved_table(), copy)
    (copy / ".zmetadata").write_bytes(content)
    return _read_table(copy)


def _table_record(content: bytes) -> object:
    """The record alone, which stands as text inside the metadata."""
    metadata = json.loads((_saved_table() / ".zmetadata").read_bytes())
    metadata["metadata"][".zattrs"]["record"] = content.decode("latin1")
    return _table_metadata(json.dumps(metadata).encode())


def _contents(name: str) -> Callable[[], list[bytes]]:
    return lambda: [_parts(name)[-1].read_bytes()]


FILES: dict[str, Target] = {
    "run_record": Target(_run_file("run.json"), _contents("run.json"), "json"),
    "run_losses": Target(_run_file("losses.jsonl"), _contents("losses.jsonl"), "text"),
    "last_loss": Target(_last_loss, _contents("losses.jsonl"), "text"),
    "held_out": Target(_held_out, _contents("held_out.safetensors"), "safetensors"),
    "run_tokenizer": Target(_tokenizer, _contents("tokenizer.json"), "json"),
    "snapshot_record": Target(_snapshot("snapshot.json"), _contents("snapshots/*1/snapshot.json"), "json"),
    "snapshot_weights": Target(
        _snapshot("model.safetensors"), _contents("snapshots/*1/model.safetensors"), "safetensors"
    ),
    "state_record": Target(_state("state.json"), _contents("state/*/state.json"), "json"),
    "state_tensors": Target(_state("state.safetensors"), _contents("state/*/state.safetensors"), "safetensors"),
    "eval_set": Target(_eval_set, _eval_set_seeds, "safetensors"),
    "head_scores": Target(_head_scores, _head_scores_seeds, "json"),
    "heads_on_text": Target(_heads_on_text, _heads_on_text_seeds, "safetensors"),
    "stored_measurement": Target(_stored, lambda: [_entries()[0].read_bytes()], "safetensors"),
    "table_metadata": Target(_table_metadata, lambda: [(_saved_table() / ".zmetadata").read_bytes()], "json"),
    "table_record": Target(_table_record, lambda: [json.dumps(_table_written()).encode()], "json"),
}


def _table_written() -> dict[str, Any]:
    return json.loads(json.loads((_saved_table() / ".zattrs").read_bytes())["record"])
