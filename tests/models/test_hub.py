"""Loading from the hub, and what users are told when that fails, against a stand-in of the hub."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

import ih_lens as ih
from ih_lens.models.origin import origin_of
from tests.models.hub_stand_in import HubStandIn, hub, impatient
from tests.models.huggingface_models import huggingface_model, save_huggingface

__all__ = ["hub", "impatient"]
pytestmark = pytest.mark.usefixtures("impatient")
NAME = "lab/tiny-gpt2"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for seed, revision in enumerate(["main", "old"]):
        save_huggingface(folder / revision, "gpt2", seed=seed)
    return folder


@pytest.fixture
def commits(hub: HubStandIn, files: Path) -> dict[str, str]:
    return {revision: hub.add(NAME, revision, files / revision) for revision in ("main", "old")}


def _logits(seed: int) -> torch.Tensor:
    with torch.no_grad():
        return huggingface_model("gpt2", seed=seed)(torch.arange(20)[None]).logits


@pytest.mark.parametrize(("revision", "seed"), [(None, 0), ("main", 0), ("old", 1), ("commit", 1)])
def test_a_branch_or_commit_gives_its_own_weights_and_is_recorded(
    commits: dict[str, str], revision: str | None, seed: int
) -> None:
    asked = commits["old"] if revision == "commit" else revision
    model = ih.load_model(NAME, revision=asked)
    torch.testing.assert_close(model(torch.arange(20)[None]), _logits(seed), atol=1e-4, rtol=1e-4)
    origin = origin_of(model)
    assert origin is not None
    assert (origin.source, origin.name, origin.revision) == ("hub", NAME, asked)
    assert origin.commit == commits["old" if seed else "main"]
    assert model.tokenizer is not None


def test_what_was_loaded_once_needs_no_connection(hub: HubStandIn, commits: dict[str, str]) -> None:
    ih.load_model(NAME)
    hub.stop()
    model = ih.load_model(NAME)
    torch.testing.assert_close(model(torch.arange(20)[None]), _logits(0), atol=1e-4, rtol=1e-4)
    origin = origin_of(model)
    assert origin is not None
    assert origin.commit == commits["main"]


def test_a_model_without_tokenizer(hub: HubStandIn, tmp_path: Path) -> None:
    save_huggingface(tmp_path / "bare", "gpt2", tokenizer=None)
    hub.add("lab/bare", "main", tmp_path / "bare")
    assert ih.load_model("lab/bare").tokenizer is None


def test_no_such_repository(hub: HubStandIn) -> None:
    with pytest.raises(ih.InputError, match="no such folder and no such public repository"):
        ih.load_model("lab/absent")


def test_no_such_revision(commits: dict[str, str]) -> None:
    with pytest.raises(ih.InputError, match="no revision 'v9'"):
        ih.load_model(NAME, revision="v9")


@pytest.mark.parametrize("status", [401, 403])
def test_gated(hub: HubStandIn, commits: dict[str, str], status: int) -> None:
    hub.fail("status", "resolve", status=status, code="GatedRepo")
    with pytest.raises(ih.InputError, match="accept its licence"):
        ih.load_model(NAME)


def test_no_connection(hub: HubStandIn, commits: dict[str, str]) -> None:
    hub.stop()
    with pytest.raises(ih.InputError, match="cannot be reached"):
        ih.load_model(NAME)


def test_a_server_in_trouble(hub: HubStandIn, commits: dict[str, str]) -> None:
    hub.fail("status", "", status=500)
    with pytest.raises(ih.InputError, match="cannot be reached"):
        ih.load_model(NAME)


def test_a_download_that_ends_early_is_never_taken_for_whole(hub: HubStandIn, commits: dict[str, str]) -> None:
    failure = hub.fail("short", "model.safetensors")
    with pytest.raises(ih.DamagedFileError, match="truncated"):
        ih.load_model(NAME)
    hub.failures.remove(failure)
    torch.testing.assert_close(ih.load_model(NAME)(torch.arange(20)[None]), _logits(0), atol=1e-4, rtol=1e-4)


def test_a_connection_that_breaks_is_resumed(hub: HubStandIn, commits: dict[str, str]) -> None:
    hub.fail("truncated", "model.safetensors", times=2)
    if huggingface_hub.__version__.startswith("1."):  # later ones go on without being asked again
        for _ in range(2):
            with pytest.raises(ih.InputError, match="load again, which goes on where it stopped"):
                ih.load_model(NAME)
    torch.testing.assert_close(ih.load_model(NAME)(torch.arange(20)[None]), _logits(0), atol=1e-4, rtol=1e-4)
    assert hub.downloads(NAME, "model.safetensors") >= 3


def test_weights_that_are_truncated_in_the_repository(hub: HubStandIn, files: Path, tmp_path: Path) -> None:
    for file in (files / "main").iterdir():
        content = file.read_bytes()
        half = content[: len(content) // 2] if file.suffix == ".safetensors" else content
        (tmp_path / "half").mkdir(exist_ok=True)
        (tmp_path / "half" / file.name).write_bytes(half)
    hub.add("lab/half", "main", tmp_path / "half")
    with pytest.raises(ih.DamagedFileError, match="lab/half"):
        ih.load_model("lab/half")


def test_a_repository_without_weights(hub: HubStandIn, files: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((files / "main" / "config.json").read_bytes())
    hub.add("lab/empty", "main", tmp_path)
    with pytest.raises(ih.InputError, match="lab/empty"):
        ih.load_model("lab/empty")


def test_pythias_branches_under_their_own_name(hub: HubStandIn, tmp_path: Path) -> None:
    """`checkpoint=` and `published_run` know that EleutherAI's branches are called step{n}."""
    name = "EleutherAI/pythia-70m"
    for seed, step in enumerate([0, 1, 512]):
        save_huggingface(tmp_path / str(step), "gpt_neox", seed=seed)
        commit = hub.add(name, f"step{step}", tmp_path / str(step))
    run = ih.published_run("pythia-70m", revisions=[0, 512], folder=tmp_path / "run")
    assert [snapshot.tokens_elapsed for snapshot in run.snapshots] == [0, 512 * 2_097_152]
    assert (run.finished, run.n_steps, run.snapshots[-1].commit) == (False, 143_000, commit)
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(run.snapshots[1].load()(tokens), ih.load_model("pythia-70m", checkpoint=512)(tokens))


@pytest.fixture
def small_models(hub: HubStandIn, tmp_path: Path) -> dict[int, ih.Snapshot | Any]:
    """A repository as the attention-only models lie in: all checkpoints are files of one revision."""
    name, folder = "NeelNanda/Attn_Only_2L512W_C4_Code", tmp_path / "neel"
    cfg = ih.attention_only(2, d_model=16, n_heads=2, d_vocab=40, n_ctx=32)
    (folder / "checkpoints").mkdir(parents=True)
    described = {
        "d_model": 16,
        "n_layers": 2,
        "d_mlp": 64,
        "d_head": 8,
        "n_heads": 2,
        "n_ctx": 32,
        "d_vocab": 40,
        "act_fn": "gelu",
        "attn_only": True,
        "normalization": "LN",
        "shortformer_pos": True,
        "final_rms": False,
    }
    (folder / "config.json").write_text(json.dumps(described))
    models: dict[int, Any] = {}
    for seed, label in enumerate([2_000_000_000, 3_000_000_000, 21_000_000_000]):
        models[label] = ih.build_model(cfg, seed=seed)
        weights = {key: value for key, value in models[label].state_dict().items() if "mask" not in key}
        torch.save(weights, folder / "checkpoints" / f"{name.split('/')[1]}_{label:012d}.pth")
    torch.save({}, folder / "model_final.pth")
    hub.add(name, "main", folder)
    return models


def test_checkpoints_that_are_files_of_one_revision(
    hub: HubStandIn, small_models: dict[int, Any], tmp_path: Path
) -> None:
    run = ih.published_run("attn-only-2l", revisions="all", folder=tmp_path / "run", disk_budget_gb=0)
    assert [snapshot.tokens_elapsed for snapshot in run.snapshots] == list(small_models)
    assert len({snapshot.weights_hash for snapshot in run.snapshots}) == 3
    tokens = torch.arange(20)[None]
    for snapshot, model in zip(run.snapshots, small_models.values(), strict=True):
        torch.testing.assert_close(snapshot.load()(tokens), model(tokens))
    assert not list((tmp_path / "hf").rglob("snapshots/*/checkpoints/*.pth"))
    hub.stop()
    again = ih.published_run("attn-only-2l", revisions="all", folder=tmp_path / "run", disk_budget_gb=0)
    assert again.snapshots == run.snapshots


def test_labels_that_count_steps_need_the_tokens_of_one(hub: HubStandIn, tmp_path: Path) -> None:
    name, folder = "NeelNanda/SoLU_1L512W_C4_Code", tmp_path / "neel"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "SoLU_1L_000100.pth").write_bytes(b"")
    hub.add(name, "main", folder)
    with pytest.raises(ih.InputError, match="labels its checkpoints by steps"):
        ih.published_checkpoints(name)
    found = ih.published_checkpoints(name, tokens_per_step=1000)
    assert found == [ih.PublishedCheckpoint("main", 100, 100_000, "checkpoints/SoLU_1L_000100.pth")]
