import json
import shutil

import pytest
import torch

import ih_lens as ih
from ih_lens.training import loop
from ih_lens.training.batches import Batches
from ih_lens.training.optimizer import build_optimizer
from tests.helpers import tiny_model
from tests.training.helpers import contents, same_weights, tiny_cfg, tiny_config, tiny_corpus, train_tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that tests only read or copy."""
    return train_tiny(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def copied(finished, tmp_path):
    return ih.open_run(shutil.copytree(finished.path, tmp_path / "copied"))


def test_a_run_tells_all_about_itself(finished):
    assert finished.finished
    assert finished.name == "finished"
    assert [snapshot.step for snapshot in finished.snapshots] == [0, 5, 10, 12]
    assert [snapshot.tokens_elapsed for snapshot in finished.snapshots] == [0, 320, 640, 768]
    losses = finished.losses
    assert list(losses["step"]) == list(range(12))
    assert list(losses["tokens_elapsed"]) == [64 * step for step in range(12)]
    assert losses["lr"].iloc[0] == pytest.approx(1e-2 / 3)
    assert losses["loss"].iloc[0] == pytest.approx(2.5, abs=0.5)  # ln 12 at the start
    assert finished.held_out.shape == (6, 16)
    assert torch.equal(finished.held_out, tiny_corpus().held_out(6))
    manifest = finished.manifest
    assert manifest["corpus"]["fingerprint"] == tiny_corpus().describe()["fingerprint"]
    assert (manifest["precision"], manifest["forward"], manifest["tokens_per_step"]) == ("float32", "fused", 64)
    assert {"torch", "transformer-lens", "ih-lens"} <= set(manifest["versions"])


def test_the_logged_loss_is_that_of_the_model_before_the_step(finished):
    examples = tiny_corpus().examples(20, 24, data_seed=0)
    model = finished.snapshots[1].load()
    expected = model(examples, return_type="loss").item()
    assert finished.losses["loss"][5] == pytest.approx(expected, abs=1e-5)


def test_training_learns_what_there_is_to_learn(tmp_path):
    tokens = torch.arange(16).repeat(400, 1) % 12
    run = train_tiny(tmp_path / "run", corpus=tokens, n_steps=60, n_held_out=0)
    assert run.losses["loss"].iloc[-1] < 0.1
    assert run.held_out is None


def test_same_seeds_same_files(finished, tmp_path):
    assert contents(train_tiny(tmp_path / "again").path) == contents(finished.path)


def test_a_finished_run_is_returned_as_it_is(copied):
    before = {file: file.stat().st_mtime_ns for file in copied.path.rglob("*") if file.name != ".lock"}
    assert train_tiny(copied.path).finished
    assert {file: file.stat().st_mtime_ns for file in copied.path.rglob("*") if file.name != ".lock"} == before


def test_seed_and_data_seed_are_separate(finished, tmp_path):
    other = train_tiny(tmp_path / "data", data_seed=1)
    assert same_weights(other.snapshots[0].load(), finished.snapshots[0].load())
    assert other.losses["loss"][0] != finished.losses["loss"][0]
    weights = train_tiny(tmp_path / "weights", seed=1)
    assert not same_weights(weights.snapshots[0].load(), finished.snapshots[0].load())


def test_every_model_sees_the_same_examples(monkeypatch, tmp_path):
    seen = {}

    def remember(batches, step):
        rows = original(batches, step)
        seen.setdefault(name, []).append(rows.clone())
        return rows

    original = Batches.__getitem__
    monkeypatch.setattr(Batches, "__getitem__", remember)
    tokens = torch.randint(0, 12, (60, 16), generator=torch.Generator().manual_seed(0))
    for name, settings in {
        "plain": {},
        "smeared": {"smeared_keys": True},
        "two layers": {"cfg": ih.attention_only(2, d_model=16, n_heads=2, d_vocab=12, n_ctx=16)},
        "other weights": {"seed": 3},
        "other order": {"data_seed": 1},
    }.items():
        train_tiny(tmp_path / name, corpus=tokens, n_held_out=0, **settings)
    orders = {name: torch.cat(batches) for name, batches in seen.items()}
    assert all(torch.equal(orders["plain"], orders[name]) for name in ("smeared", "two layers", "other weights"))
    assert not torch.equal(orders["plain"], orders["other order"])
    assert len(orders["plain"].unique(dim=0)) == 48


def test_examples_repeat_only_when_asked(tmp_path):
    tokens = torch.randint(0, 12, (20, 16), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ih.InputError, match="need 48 examples, and the corpus has 20; train for at most 5 steps"):
        train_tiny(tmp_path / "refused", corpus=tokens, n_held_out=0)
    assert not (tmp_path / "refused").exists()
    batches = Batches(ih.TensorCorpus(tokens), tiny_config(repeat_examples=True))
    order = torch.cat([batches[step] for step in range(12)])
    assert torch.equal(order[:20], order[20:40])
    assert torch.equal(order[:8], order[40:])
    assert train_tiny(tmp_path / "repeated", corpus=tokens, n_held_out=0, repeat_examples=True).finished


def test_batches_come_in_order_wherever_one_begins(monkeypatch):
    monkeypatch.setattr("ih_lens.training.batches._TOKENS_AHEAD", 200)
    batches, config = Batches(tiny_corpus(), tiny_config()), tiny_config()
    expected = tiny_corpus().examples(0, 48, data_seed=0)
    for step in [0, 1, 2, 7, 3, 11, 10]:
        assert torch.equal(batches[step], expected[4 * step : 4 * step + 4])
    assert config.batch_size == 4


def test_the_weight_decay_change_acts_from_its_step_on(tmp_path):
    plain = train_tiny(tmp_path / "plain", snapshots=ih.every(1), weight_decay=0.5)
    changed = train_tiny(
        tmp_path / "changed", snapshots=ih.every(1), weight_decay=0.5, weight_decay_changes=((4, 0.0),)
    )
    same = [
        same_weights(one.load(), other.load()) for one, other in zip(plain.snapshots, changed.snapshots, strict=True)
    ]
    assert same == [True] * 5 + [False] * 8


def test_weight_decay_moves_matrices_only(tmp_path):
    settings = {"n_steps": 1, "lr": 1e-3, "warmup_steps": 0}
    still, decayed = (train_tiny(tmp_path / f"{decay}", weight_decay=decay, **settings) for decay in (0.0, 1.0))
    one = dict(still.snapshots[-1].load().named_parameters())
    other = dict(decayed.snapshots[-1].load().named_parameters())
    moved = {name.rsplit(".", 1)[-1] for name in one if not torch.equal(one[name], other[name])}
    assert moved == {"W_E", "W_Q", "W_K", "W_V", "W_O", "W_U"}


@pytest.mark.parametrize("kind", ["with_mlps", "rms_grouped", "smeared_rotary_grouped", "shortformer"])
def test_what_is_decayed(kind):
    model = tiny_model(kind)
    optimizer = build_optimizer(model, tiny_config())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        last = name.rsplit(".", 1)[-1].lstrip("_")
        assert (id(parameter) in decayed) == (last[:2] == "W_" and last != "W_pos"), name


def test_gradients_are_clipped(finished, tmp_path):
    clipped = train_tiny(tmp_path / "clipped", grad_clip=1e-9)  # so small that Adam's epsilon holds it back
    distance = [
        sum(
            (a - b).detach().norm().item()
            for a, b in zip(run.snapshots[0].load().parameters(), run.snapshots[-1].load().parameters(), strict=True)
        )
        for run in (finished, clipped)
    ]
    assert distance[1] < 0.7 * distance[0]


@pytest.mark.parametrize("positions", ["rotary", "standard"])
def test_smeared_and_other_models_train_and_load(tmp_path, positions):
    run = train_tiny(tmp_path / "run", cfg=tiny_cfg(positions=positions), smeared_keys=True)
    model = run.snapshots[-1].load()
    assert run.smeared_keys
    assert ih.load_model(run.snapshots[-1].path).cfg.positional_embedding_type == positions
    assert float(model.blocks[0].attn.alpha.detach().abs().max()) > 0


def test_what_the_fused_forward_does_not_cover_is_trained_with_hooks(tmp_path):
    run = train_tiny(tmp_path / "run", cfg=tiny_cfg(attn_scores_soft_cap=20.0))
    assert run.manifest["forward"] == "hooked"
    assert run.finished


def test_bfloat16_keeps_weights_in_float32(finished, tmp_path):
    run = train_tiny(tmp_path / "run", precision="bfloat16")
    assert run.manifest["precision"] == "bfloat16"
    assert next(run.snapshots[-1].load().parameters()).dtype == torch.float32
    assert run.losses["loss"].iloc[-1] == pytest.approx(finished.losses["loss"].iloc[-1], abs=0.05)
    assert run.losses["loss"].iloc[-1] != finished.losses["loss"].iloc[-1]


def test_leaves_global_state_as_it_was(tmp_path):
    torch.manual_seed(5)
    rng, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    cfg, config = tiny_cfg(), tiny_config()
    with torch.no_grad():
        ih.train(cfg, tiny_corpus(), config, out=tmp_path / "no_grad")
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        ih.train(cfg, tiny_corpus(), config, out=tmp_path / "inference")
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), rng)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert vars(cfg) == vars(tiny_cfg())


def test_nothing_is_written_to_the_screen(tmp_path, capfd):
    train_tiny(tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_a_diverging_run_stops_and_keeps_its_snapshots(tmp_path):
    settings = {"lr": 1e38, "grad_clip": None, "warmup_steps": 0, "snapshots": ih.every(1)}
    for _ in range(2):
        with pytest.raises(ih.RunError, match="smaller lr"):
            train_tiny(tmp_path / "run", **settings)
    run = ih.open_run(tmp_path / "run")
    assert not run.finished
    assert all(torch.isfinite(parameter).all() for parameter in run.snapshots[-1].load().parameters())
    assert all(json.loads(line)["loss"] < float("inf") for line in (run.path / "losses.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("cfg", "corpus", "message"),
    [
        (tiny_cfg(n_ctx=8), tiny_corpus(), "examples of 16 tokens, the model a context of 8"),
        (tiny_cfg(d_vocab=8), tiny_corpus(), "vocabulary of 12, the model one of 8"),
        (tiny_cfg(dtype=torch.bfloat16), tiny_corpus(), "expected weights in float32"),
        (tiny_cfg(), torch.ones(3), "tokens: expected an integer tensor"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, cfg, corpus, message):
    with pytest.raises(ih.InputError, match=message):
        ih.train(cfg, corpus, tiny_config(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_losses_are_fetched_late_on_a_gpu(finished, monkeypatch, tmp_path):
    """Fetching them in groups, as on a GPU, writes the same log."""
    monkeypatch.setattr(loop, "_steps_in_flight", lambda device: 4)
    assert contents(train_tiny(tmp_path / "run").path) == contents(finished.path)


def test_a_tensor_keeps_what_its_training_does_not_need_for_measuring(tmp_path):
    tokens = torch.randint(0, 12, (50, 16), generator=torch.Generator().manual_seed(0))
    run = train_tiny(tmp_path / "surplus", corpus=tokens, n_steps=5, batch_size=8, n_held_out=None)
    assert run.held_out.shape == (10, 16)
    trained = ih.TensorCorpus(tokens, n_held_out=10).examples(0, 40, data_seed=0)
    assert len(torch.cat([run.held_out, trained]).unique(dim=0)) == 50
    chosen = train_tiny(tmp_path / "chosen", corpus=tokens, n_steps=5, batch_size=8, n_held_out=4)
    assert chosen.held_out.shape == (4, 16)
    none = train_tiny(tmp_path / "none", corpus=tokens[:40], n_steps=5, batch_size=8, n_held_out=None)
    assert none.held_out is None
