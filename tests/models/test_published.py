"""Published checkpoints against a stand-in of the hub: what is fetched, kept, dropped, tried again, and refused."""

import json
import multiprocessing
import shutil
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

import ih_lens as ih
from ih_lens.models import hub_retries, published, published_snapshot
from ih_lens.models.disk_budget import DiskBudget
from ih_lens.models.hub_retries import is_transient, with_retries
from ih_lens.models.origin import origin_of
from ih_lens.models.published import open_published
from tests.models.hub_stand_in import HubStandIn, hub, impatient, publish
from tests.models.huggingface_models import huggingface_model, save_huggingface

__all__ = ["hub", "impatient"]
pytestmark = pytest.mark.usefixtures("impatient")
NAME = "lab/tiny-neox"
STEPS = {"step0": 0, "step1": 1, "step2": 2, "step4": 4, "step8": 8}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five revisions whose weights differ, written once."""
    folder = tmp_path_factory.mktemp("published")
    for seed, revision in enumerate(STEPS):
        _fill(folder / revision, seed)
    return folder


@pytest.fixture
def commits(hub: HubStandIn, files: Path) -> dict[str, str]:
    """Their repository."""
    hub.add(NAME, "main", files / "step8")
    return {revision: hub.add(NAME, revision, files / revision) for revision in STEPS}


def _fill(folder: Path, seed: int) -> None:
    save_huggingface(folder, "gpt_neox", seed=seed)


def _open(tmp_path: Path, **options: Any) -> ih.PublishedRun:
    chosen: dict[str, Any] = {"revisions": STEPS, "tokens_per_step": 100, "folder": tmp_path / "run", **options}
    return ih.published_run(NAME, **chosen)


def _cached(tmp_path: Path) -> dict[str, int]:
    """Sizes of the weights in the cache, by commit."""
    places = (tmp_path / "hf" / "hub").glob("models--*/snapshots/*/*.safetensors")
    return {place.parent.name: place.stat().st_size for place in places}


def _blobs(tmp_path: Path) -> int:
    """Bytes of large files that really lie on the disk."""
    blobs = (tmp_path / "hf" / "hub").glob("models--*/blobs/*")
    return sum(blob.stat().st_size for blob in blobs if blob.stat().st_size > 50_000)


def test_opening_fetches_no_weights(hub: HubStandIn, commits: dict[str, str], files: Path, tmp_path: Path) -> None:
    run = _open(tmp_path)
    assert hub.downloads(NAME, "model.safetensors") == 0
    assert [snapshot.step for snapshot in run.snapshots] == [0, 1, 2, 4, 8]
    assert [snapshot.tokens_elapsed for snapshot in run.snapshots] == [0, 100, 200, 400, 800]
    assert [snapshot.commit for snapshot in run.snapshots] == list(commits.values())
    assert (run.n_steps, run.finished, run.exponential, run.name) == (8, True, True, "run")
    assert run.tokenizer.encode("the cat")
    assert run.record.n_bytes == (files / "step8/model.safetensors").stat().st_size


def test_a_snapshot_is_the_model_of_its_revision(commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path)
    for seed, snapshot in enumerate(run.snapshots[:2]):
        model = snapshot.load()
        original = huggingface_model("gpt_neox", seed=seed)
        tokens = torch.arange(20)[None]
        with torch.no_grad():
            expected = original(tokens).logits
        torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=1e-4)
        origin = origin_of(model)
        assert origin is not None
        assert (origin.name, origin.commit) == (NAME, snapshot.commit)
        assert model.cfg.n_ctx == run.cfg.n_ctx
    hashes = {snapshot.weights_hash for snapshot in run.snapshots}
    assert len(hashes) == 5
    assert f"{NAME}@{commits['step4']} (float32)" in hashes


def test_a_later_call_needs_no_hub(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    first = _open(tmp_path)
    hub.stop()
    assert _open(tmp_path) == first
    again = open_published(tmp_path / "run")
    assert again is not None
    assert again.snapshots == first.snapshots
    assert again.tokenizer.encode("the cat") == first.tokenizer.encode("the cat")


def test_more_revisions_are_looked_up_when_asked_for(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    _open(tmp_path, revisions={"step0": 0, "step8": 8})
    hub.requests.clear()
    more = _open(tmp_path)
    assert len(more.snapshots) == 5
    assert [request for request in hub.requests if request.startswith("GET")] == [f"GET /api/models/{NAME}/refs"]


def test_a_moved_revision_is_noticed_when_asked(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    before = _open(tmp_path)
    _fill(tmp_path / "moved", 9)
    moved = hub.add(NAME, "step2", tmp_path / "moved")
    assert _open(tmp_path).snapshots == before.snapshots
    assert _open(tmp_path, refresh=True).snapshots[2].commit == moved
    assert _open(tmp_path).snapshots[2].commit == moved


def test_another_model_does_not_go_into_the_same_folder(commits: dict[str, str], tmp_path: Path) -> None:
    _open(tmp_path)
    with pytest.raises(ih.RunError, match="bfloat16"):
        _open(tmp_path, dtype=torch.bfloat16)
    with pytest.raises(ih.RunError, match="pythia-70m"):
        ih.published_run("pythia-70m", folder=tmp_path / "run")


def test_weights_are_dropped_within_the_budget(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    size = _open(tmp_path).record.n_bytes
    run = _open(tmp_path, disk_budget_gb=2.5 * size / 1e9)
    for snapshot in run.snapshots:
        snapshot.load()
        assert _blobs(tmp_path) <= 2.5 * size
    assert set(_cached(tmp_path)) == {commits["step4"], commits["step8"]}
    assert DiskBudget(10**9).used() == 2 * size
    run.snapshots[-1].load()
    assert hub.downloads(NAME, "model.safetensors") == 5
    run.snapshots[0].load()  # dropped before, so it is fetched again
    assert hub.downloads(NAME, "model.safetensors") == 6


def test_a_checkpoint_larger_than_the_budget_is_loaded_and_dropped(commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path, disk_budget_gb=0.0)
    run.snapshots[0].load()
    run.snapshots[1].load()
    assert _cached(tmp_path) == {}
    assert _blobs(tmp_path) == 0


def test_what_the_user_had_is_never_dropped(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    huggingface_hub.snapshot_download(NAME, revision="step1")
    run = _open(tmp_path, disk_budget_gb=0.0)
    for snapshot in run.snapshots:
        snapshot.load()
    assert set(_cached(tmp_path)) == {commits["step1"]}
    assert hub.downloads(NAME, "model.safetensors") == 5
    cached = huggingface_hub.snapshot_download(NAME, revision="step1", local_files_only=True)
    assert (Path(cached) / "model.safetensors").stat().st_size == run.record.n_bytes


def test_content_that_the_user_has_under_another_revision_stays(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path
) -> None:
    """Two commits with the same weights share one file of the cache."""
    twin = tmp_path / "twin"
    _fill(twin, 0)
    (twin / "README.md").write_text("another commit")
    hub.add(NAME, "twin", twin)
    huggingface_hub.snapshot_download(NAME, revision="twin")
    _open(tmp_path, disk_budget_gb=0.0).snapshots[0].load()
    assert len(_cached(tmp_path)) == 1
    assert _blobs(tmp_path) == next(iter(_cached(tmp_path).values()))


def test_what_a_killed_process_left_is_dropped_too(commits: dict[str, str], tmp_path: Path) -> None:
    """Its note was written before the first byte came."""
    run = _open(tmp_path, disk_budget_gb=1.0)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_die_with_weights, args=(run.snapshots[0],))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert set(_cached(tmp_path)) == {commits["step0"]}
    _open(tmp_path, disk_budget_gb=0.0).snapshots[1].load()
    assert _cached(tmp_path) == {}


def _die_with_weights(snapshot: ih.PublishedSnapshot) -> None:
    def die(*_: object, **__: object) -> None:
        import os

        os._exit(9)

    published_snapshot.load_model = die  # type: ignore[assignment]
    snapshot.load()


def test_weights_in_use_are_not_dropped(commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path, disk_budget_gb=0.0)
    snapshot = run.snapshots[0]
    weights = _weights_of(snapshot)
    kept = DiskBudget(10**9)
    with kept.room_for(weights):
        snapshot_download = huggingface_hub.snapshot_download(NAME, revision=snapshot.commit)
        assert DiskBudget(0)._drop_oldest(kept._notes(), 0).keys() == {weights.name}
        assert (Path(snapshot_download) / "model.safetensors").exists()
    with DiskBudget(0).room_for(_weights_of(run.snapshots[1])):
        assert not (Path(snapshot_download) / "model.safetensors").exists()


def _weights_of(snapshot: ih.PublishedSnapshot) -> Any:
    from ih_lens.models.disk_budget import Weights
    from ih_lens.models.hub_files import list_files, weights_of

    return Weights(NAME, str(snapshot.commit), weights_of(list_files(NAME, snapshot.commit)))


def test_others_wait_while_all_room_is_taken(commits: dict[str, str], tmp_path: Path) -> None:
    first, second = (_weights_of(snapshot) for snapshot in _open(tmp_path).snapshots[:2])
    budget, order = DiskBudget(first.size), list[str]()
    inside = threading.Event()

    def take_second() -> None:
        inside.wait()
        with budget.room_for(second):
            order.append("second begins")

    thread = threading.Thread(target=take_second)
    thread.start()
    with budget.room_for(first):
        inside.set()
        thread.join(0.5)
        order.append("first ends")
    thread.join()
    assert order == ["first ends", "second begins"]


@pytest.mark.parametrize(
    ("kind", "details"),
    [("short", {}), ("truncated", {}), ("status", {"status": 503}), ("status", {"status": 429}), ("slow", {})],
)
def test_what_passes_is_tried_again(
    hub: HubStandIn, commits: dict[str, str], tmp_path: Path, kind: str, details: dict[str, Any]
) -> None:
    run = _open(tmp_path)
    hub.fail(kind, "resolve.*model.safetensors", times=2, **details)
    assert run.snapshots[0].load().cfg.n_layers == run.cfg.n_layers


def test_the_hub_may_come_back(hub: HubStandIn, commits: dict[str, str], tmp_path: Path, monkeypatch) -> None:
    run = _open(tmp_path)
    hub.stop()
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            hub.start()

    monkeypatch.setattr(hub_retries.time, "sleep", wait)
    run.snapshots[0].load()
    assert pauses == sorted(pauses)


def test_without_connection_the_reason_is_told(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path, retries=1)
    hub.stop()
    with pytest.raises(ih.DownloadError, match="1 retries") as told:
        run.snapshots[0].load()
    assert is_transient(told.value)


def test_what_is_in_the_cache_needs_no_connection(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path)
    run.snapshots[0].load()
    hub.stop()
    assert run.snapshots[0].load().cfg.n_layers == run.cfg.n_layers


def test_what_stays_wrong_is_not_tried_again(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    run = _open(tmp_path, revisions={**STEPS, "step16": 16})
    with pytest.raises(ih.DownloadError, match="no revision 'step16'"):
        run.snapshots[-1].load()
    hub.fail("status", "resolve.*safetensors", status=403, code="GatedRepo")
    hub.requests.clear()
    with pytest.raises(ih.DownloadError, match="gated"):
        run.snapshots[0].load()
    assert sum("HEAD" in request and "safetensors" in request for request in hub.requests) == 1


def test_a_checkpoint_of_another_shape_is_refused(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "wider"
    save_huggingface(other, "gpt_neox", seed=0, intermediate_size=64)
    hub.add(NAME, "step2", other)
    with pytest.raises(ih.InputError, match="d_mlp"):
        _open(tmp_path).snapshots[2].load()


def test_weights_that_are_damaged_in_the_repository_are_no_reason_to_stop(
    hub: HubStandIn, commits: dict[str, str], files: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(files / "step2", half)
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    hub.add(NAME, "step2", half)
    with pytest.raises(ih.DownloadError, match="truncated"):
        _open(tmp_path).snapshots[2].load()
    assert _cached(tmp_path) == {}


def test_a_model_without_tokenizer(hub: HubStandIn, tmp_path: Path) -> None:
    save_huggingface(tmp_path / "bare", "gpt_neox", tokenizer=None)
    hub.add("lab/bare", "step0", tmp_path / "bare")
    run = ih.published_run("lab/bare", revisions={"step0": 0}, tokens_per_step=1, folder=tmp_path / "run")
    assert (run.tokenizer, run.record.tokenizer, run.exponential) == (None, None, False)
    with pytest.raises(ih.InputError, match="no tokenizer"):
        ih.text_examples(run, ["text"], n_examples=1)


@pytest.mark.parametrize(
    ("name", "revisions", "message"),
    [
        (NAME, {"nothing": 1}, "none of the revisions nothing"),
        ("lab/absent", {"step0": 0}, "no such public repository"),
        (NAME, "log", "no published checkpoints are known"),
    ],
)
def test_opening_what_is_not_there(
    commits: dict[str, str], tmp_path: Path, name: str, revisions: Any, message: str
) -> None:
    with pytest.raises(ih.InputError, match=message):
        ih.published_run(name, revisions=revisions, tokens_per_step=10, folder=tmp_path / "run")


def test_opening_without_connection(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    hub.stop()
    with pytest.raises(ih.InputError, match="cannot be reached"):
        _open(tmp_path, retries=1)


def test_a_gated_repository_is_told_at_once(hub: HubStandIn, commits: dict[str, str], tmp_path: Path) -> None:
    hub.fail("status", "resolve", status=401, code="GatedRepo")
    with pytest.raises(ih.InputError, match="accept its licence"):
        _open(tmp_path)


def test_an_altered_record_is_refused(commits: dict[str, str], tmp_path: Path) -> None:
    _open(tmp_path)
    file = tmp_path / "run" / "published.json"
    record = json.loads(file.read_bytes())
    record["published"][0]["surprise"] = 1
    file.write_text(json.dumps(record))
    with pytest.raises(ih.DamagedFileError, match=r"published\.json"):
        _open(tmp_path)


def test_sharded_weights_and_old_formats(hub: HubStandIn, tmp_path: Path) -> None:
    def fill(folder: Path, seed: int) -> None:
        save_huggingface(folder, "gpt_neox", seed=seed, max_shard_size="60KB" if seed else "50GB")
        if not seed:
            state = huggingface_model("gpt_neox", seed=seed).state_dict()
            (folder / "model.safetensors").unlink()
            torch.save(state, folder / "pytorch_model.bin")

    publish(hub, NAME, ["step0", "step1"], fill, tmp_path / "files")
    run = _open(tmp_path, revisions={"step0": 0, "step1": 1}, disk_budget_gb=0.0)
    for seed, snapshot in enumerate(run.snapshots):
        tokens = torch.arange(12)[None]
        with torch.no_grad():
            expected = huggingface_model("gpt_neox", seed=seed)(tokens).logits
        torch.testing.assert_close(snapshot.load()(tokens), expected, atol=1e-4, rtol=1e-4)
    assert _blobs(tmp_path) == 0


def test_retries_stop_at_what_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionResetError if len(calls) < 3 else ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        with_retries(fail, retries=9, pause=0.0, what="test")
    assert len(calls) == 3
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    calls.clear()
    with pytest.raises(ConnectionResetError):  # offline, nobody comes back
        with_retries(fail, retries=9, pause=0.0, what="test")


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ih.InputError, match="disk_budget_gb"):
        ih.published_run("pythia-70m", disk_budget_gb=-1, folder=tmp_path)
    with pytest.raises(ih.InputError, match="retries"):
        ih.published_run("pythia-70m", retries=-1, folder=tmp_path)
    assert published.open_published(tmp_path) is None
