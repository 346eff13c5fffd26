"""What has no place under transformer-lens 4.x says so, and what to do; what needs no model works."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ih_lens as ih
from ih_lens.models import hooked_transformer
from tests.models.huggingface_models import huggingface_model, save_huggingface

INSTALL = r"transformer-lens 4\.\d+\.\d+ is installed, which has no HookedTransformer(.|\n)*'transformer-lens>=3\.9,<4'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_huggingface(tmp_path / "mine")
    return tmp_path / "mine"


def test_loading_shows_the_lines_that_make_a_bridge(folder: Path) -> None:
    with pytest.raises(ih.CapabilityError, match=INSTALL) as refused:
        ih.load_model(folder)
    lines = [line.strip() for line in str(refused.value).splitlines() if line.startswith("    ")]
    made: dict[str, Any] = {}
    exec("\n".join(lines), made)
    assert type(made["model"]).__name__ == "TransformerBridge"
    assert ih.load_model(made["model"]) is made["model"]
    assert ih.prefix_matching_score(made["model"], ih.repeated_random_tokens(made["model"], length=8)).isfinite().all()


@pytest.mark.parametrize("what", ["gpt2", "organisation/name"])
def test_names_on_the_hub_are_refused_before_anything_is_fetched(what: str) -> None:
    with pytest.raises(ih.CapabilityError, match=INSTALL):
        ih.load_model(what)


def test_a_live_model_is_refused_with_the_bridge_around_it() -> None:
    with pytest.raises(ih.CapabilityError, match=r"hf_model=") as refused:
        ih.load_model(huggingface_model("gpt2"))
    assert "GPT2LMHeadModel" in str(refused.value)


NEEDS_3_9: dict[str, Callable[[Path], Any]] = {
    "attention_only": lambda reference: ih.attention_only(2),
    "with_mlps": lambda reference: ih.with_mlps(2),
    "series": lambda reference: ih.small_attention_only()[0].cfg,
    "snapshot": lambda reference: ih.open_run(reference / "run").snapshots[-1].load(),
    "load_model of a snapshot": lambda reference: ih.load_model(ih.open_run(reference / "run").snapshots[-1].path),
    "exemplar_model": lambda reference: ih.exemplar_model(ih.ExemplarLabels()),
    "a run's configuration": lambda reference: ih.open_run(reference / "run").cfg,
}


@pytest.mark.parametrize("call", NEEDS_3_9)
def test_what_builds_or_trains_a_hooked_transformer_is_refused(reference: Path, call: str) -> None:
    with pytest.raises(ih.CapabilityError, match=INSTALL):
        NEEDS_3_9[call](reference)


@pytest.mark.parametrize("command", [["score", "gpt2"], ["table", "{run}", "--out", "{out}"]])
def test_commands_that_need_one_are_refused_in_one_message(reference: Path, tmp_path: Path, command: list[str]) -> None:
    words = [word.format(run=reference / "run", out=tmp_path / "out.html") for word in command]
    done = subprocess.run(
        [sys.executable, "-c", "from ih_lens.cli import main; main()", *words], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "which has no HookedTransformer" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_nothing_is_taken_for_a_hooked_transformer(models: dict[str, Any]) -> None:
    for model in [*models.values(), torch.nn.Linear(1, 1), None]:
        assert not isinstance(model, hooked_transformer.HookedTransformer)
    with pytest.raises(ih.CapabilityError, match=r"loading_from_pretrained\.get_pretrained_model_config belongs to it"):
        hooked_transformer.loading_from_pretrained.get_pretrained_model_config("gpt2")


def test_results_of_3_9_are_read_and_drawn(reference: Path, tmp_path: Path) -> None:
    scores = ih.HeadScores.load(reference / "scores.json")
    assert len(scores.top("prefix_matching", 2)) == 2
    assert ih.viz.plot_head_map(scores["prefix_matching"], title="prefix matching", unit="score").data
    table = ih.ModelAnalysisTable.load(reference / "table")
    assert table.figure("prefix_matching").data
    page = table.to_html(tmp_path / "table.html").read_text(encoding="utf8")
    assert "Model Analysis Table" in page
    run = ih.open_run(reference / "run")
    assert [snapshot.step for snapshot in run.snapshots] == [0, 2, 4]
    assert len(run.losses) == 4


def test_every_module_can_be_imported_and_imports_what_is_there() -> None:
    package = Path(ih.__file__).parent
    for path in package.rglob("*.py"):
        importlib.import_module(
            ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        )
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            named = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transformer_lens"
            if named and path.stem != "hooked_transformer":
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), f"{path}: {ast.unparse(node)}"


def test_measuring_a_bridge_shows_no_warning(folder: Path) -> None:
    code = f"""
from transformer_lens.model_bridge import TransformerBridge
import ih_lens as ih
bridge = TransformerBridge.boot_transformers({str(folder)!r}, device="cpu")
print("measured", file=__import__("sys").stderr)
ih.score_heads(bridge, length=8)
ih.capabilities(bridge)
evals = ih.EvalSet.from_tokens(ih.random_tokens(bridge, length=20))
ih.ablate_heads(bridge, evals)
ih.logit_terms(bridge, evals.tokens)
with ih.clamp(bridge, ih.PreviousToken("L0H1")):
    ih.token_losses(bridge, evals)
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split("measured\n")[1] == ""


@pytest.mark.parametrize("kind", ["gpt_neo", "opt", "gptj"])
def test_patterns_that_cannot_be_edited_are_refused_without_a_warning(tmp_path: Path, kind: str) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    save_huggingface(tmp_path, kind)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), device="cpu")
    evals = ih.EvalSet.from_tokens(ih.random_tokens(bridge, n_examples=2, length=8))
    with pytest.raises(ih.CapabilityError, match="ignores edits of its attention pattern"):
        ih.ablate_heads(bridge, evals, progress=False)
    with (
        pytest.raises(ih.CapabilityError, match=r"PreviousToken.* changes no logit in this model"),
        ih.clamp(bridge, ih.PreviousToken("L0H1")),
    ):
        pass
    assert ih.ablate_heads(bridge, evals, kind="full", progress=False).random_token.notnull().all()
